"""From a data set to micro-batches: sources, files, prefetching, augmentation."""

from lockstep.data.augment import build_augment
from lockstep.data.batches import MicroBatch, Span, normalised, resident_spans, windows
from lockstep.data.images import Dataset, ImageFiles, ImageStore
from lockstep.data.prefetch import Prefetcher, SpanReader
from lockstep.data.sources import TORCHVISION_SETS, fetch_dataset, load_dataset, raw_folder

__all__ = [
    "TORCHVISION_SETS",
    "Dataset",
    "ImageFiles",
    "ImageStore",
    "MicroBatch",
    "Prefetcher",
    "Span",
    "SpanReader",
    "build_augment",
    "fetch_dataset",
    "load_dataset",
    "normalised",
    "raw_folder",
    "resident_spans",
    "windows",
]
