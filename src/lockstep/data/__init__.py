"""From a data set to micro-batches: sources, fetching, files, prefetching, augmentation."""

from lockstep.data.batches import MicroBatch, Span, normalised, resident_spans, windows
from lockstep.data.image_measures import DIGIT_FACTS, ImageFacts
from lockstep.data.image_sets import ImageSet, image_samples, load_image_set, transformed_digits
from lockstep.data.images.augment import build_augment
from lockstep.data.images.image_pixels import UnreadableImage
from lockstep.data.images.image_store import Dataset, ImageFiles, ImageStore
from lockstep.data.images.transforms import build_transforms
from lockstep.data.prediction.find_pictures import find_files, find_pictures
from lockstep.data.prediction.image_preprocessing import Change, ImagePreprocessing, InvertName
from lockstep.data.prediction.pictures import Pictures
from lockstep.data.prefetch import Prefetcher, SpanReader
from lockstep.data.reading.generators import generator_states, restored_generators, seed_generators
from lockstep.data.reading.keyed_reader import Collate
from lockstep.data.reading.sample_trees import shapes_of
from lockstep.data.reading.worker_deaths import reported_deaths
from lockstep.data.reading.workers import worker_warnings
from lockstep.data.samples.dataset_samples import samples_of
from lockstep.data.samples.held_out import HeldOutSamples
from lockstep.data.samples.image_samples import ImageSamples
from lockstep.data.samples.samples import CONTENT, Chunks, Samples, chunks_of, describe_data
from lockstep.data.sources.digit_sets import (
    DATA_SOURCES,
    fetch_dataset,
    has_transposed_files,
    load_dataset,
    missing_files,
)

__all__ = [
    "CONTENT",
    "DATA_SOURCES",
    "DIGIT_FACTS",
    "Change",
    "Chunks",
    "Collate",
    "Dataset",
    "HeldOutSamples",
    "ImageFacts",
    "ImageFiles",
    "ImagePreprocessing",
    "ImageSamples",
    "ImageSet",
    "ImageStore",
    "InvertName",
    "MicroBatch",
    "Pictures",
    "Prefetcher",
    "Samples",
    "Span",
    "SpanReader",
    "UnreadableImage",
    "build_augment",
    "build_transforms",
    "chunks_of",
    "describe_data",
    "fetch_dataset",
    "find_files",
    "find_pictures",
    "generator_states",
    "has_transposed_files",
    "image_samples",
    "load_dataset",
    "load_image_set",
    "missing_files",
    "normalised",
    "reported_deaths",
    "resident_spans",
    "restored_generators",
    "samples_of",
    "seed_generators",
    "shapes_of",
    "transformed_digits",
    "windows",
    "worker_warnings",
]
