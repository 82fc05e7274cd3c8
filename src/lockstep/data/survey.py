"""Reads all images of a set once: measures them, checks sizes and labels, and perhaps keeps the pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lockstep.data.image_measures import (
    NUM_VALUES,
    ImageFacts,
    count_values,
    has_bright_border,
    mean_and_std,
)
from lockstep.data.images.image_store import ImageStore
from lockstep.data.images.labelled_images import DecodedImages
from lockstep.data.reading.generators import seed_generators
from lockstep.data.reading.sample_checks import refused_data, unreadable
from lockstep.data.samples.samples import NUM_DIGESTED, spread_ids
from lockstep.errors import ConfigError, counted, refuse, require
from lockstep.launch import advance, num_cores, read_launch

CHUNK = 256
"""Images that are decoded, and measured, together."""
MEMORY_SHARE = 0.5
"""The part of a process's memory that resident images may take: they are copied once."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found in a set of images."""

    channels: int
    size: int
    counts: Tensor
    """How often each value occurs in each channel, int64 (channels, 256)."""
    labels: Tensor
    """int64 (samples,)."""
    num_bright_borders: int
    """Images whose border is bright."""
    pixels: list[Tensor]
    """uint8 (channels, size, size) each, some perhaps with one channel; none if they were not to be kept."""

    def store(self) -> ImageStore:
        """The pixels and labels in memory."""
        shape = (self.channels, self.size, self.size)
        images = torch.empty(len(self.pixels), *shape, dtype=torch.uint8)
        for index, each in enumerate(self.pixels):
            images[index] = each  # one channel fills all
        return ImageStore(images=images, labels=self.labels)

    def facts(self, classes: tuple[str, ...], has_test: bool) -> ImageFacts:
        """What is measured, of training images in these classes; without names, the classes are numbered."""
        names = classes or tuple(str(number) for number in range(int(self.labels.max()) + 1))
        mean, std = mean_and_std(self.counts)
        return ImageFacts(
            classes=names,
            channels=self.channels,
            size=self.size,
            mean=mean,
            std=std,
            has_test=has_test,
            bright_borders=self.num_bright_borders / len(self.labels),
        )


def survey(images: DecodedImages, keep: bool) -> Survey:
    """Reads all images, in several threads if each has a file of its own.

    Args:
        images: what is read.
        keep: whether the pixels are kept in memory.

    Raises:
        ConfigError: an image cannot be read, the images differ in size or are not square, they take too much
            memory, or a label is not a class.
    """
    first = read_image(images, 0)[0]
    if keep:
        check_memory(len(images) * first.numel())
        check_fixed(images)
    size = first.shape[1]
    counts: dict[int, Tensor] = {}
    labels: list[int] = []
    pixels: list[Tensor] = []
    num_bright_borders = 0
    for start, chunk in _chunks(images):
        for index, (image, label) in enumerate(chunk, start):
            if image.shape[1:] != first.shape[1:]:
                raise different_sizes(images, index, image, first)
            labels.append(label)
        check_square(images, first)  # after the sizes of some, as the message then names two
        for channels in {len(image) for image, _ in chunk}:
            same = torch.stack([image for image, _ in chunk if len(image) == channels])
            counts[channels] = counts.get(channels, 0) + count_values(same)
            num_bright_borders += int(has_bright_border(same).sum())
        if keep:
            pixels += [image for image, _ in chunk]
    check_highest(images, labels)
    channels = images.channels or max(counts)
    if set(counts) - {channels} and set(counts) != {1, 3}:
        shown = f"{' and '.join(map(str, sorted(counts)))} channels"
        rule = "its images must all have the same number of channels; convert them"
        raise refuse(images.source.name, shown, rule)
    total = torch.zeros(channels, NUM_VALUES, dtype=torch.int64)
    for each in counts.values():
        total += each
    return Survey(
        channels=channels,
        size=size,
        counts=total,
        labels=torch.tensor(labels),
        num_bright_borders=num_bright_borders,
        pixels=pixels,
    )


def _chunks(images: DecodedImages) -> Iterator[tuple[int, list[tuple[Tensor, int]]]]:
    """Yields (first index, samples)."""
    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(images), CHUNK):
            ids = range(start, min(start + CHUNK, len(images)))
            if images.source.paths:  # PIL decodes files without holding the interpreter's lock
                yield start, list(_counted(pool.map(images.__getitem__, ids)))
            else:
                yield start, list(_counted(read_image(images, index) for index in ids))


def _counted(samples: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, int]]:
    """The same samples; each shows that this rank gets on, as all of them may take hours."""
    for sample in samples:
        advance()
        yield sample


def read_image(images: DecodedImages, index: int, seed: int = 0) -> tuple[Tensor, int]:
    """A sample of a user's own Dataset, which may draw random numbers: the same on each rank.

    Raises:
        ConfigError: it cannot be read; with the traceback of the user's code, if that raised.
    """
    seed_generators(torch.device("cpu"), seed, "survey", index)
    with refused_data():
        try:
            return images[index]
        except (Exception, SystemExit) as error:
            raise unreadable(f"{images.source.where(index)} cannot be read", error) from None


def check_fixed(images: DecodedImages) -> None:
    """Checks that some images are the same from other seeds: what is kept in memory is read only once.

    Raises:
        ConfigError: one is not.
    """
    for index in () if images.source.paths else spread_ids(len(images), NUM_DIGESTED):
        one, other = (read_image(images, index, seed)[0] for seed in (0, 1))
        rule = f"would keep one version of {images.source.where(index)}, which changes from read to read; "
        rule += "use --data.storage streamed, which reads it anew in each epoch"
        require(torch.equal(one, other), "data.storage", "resident", rule)


def check_highest(images: DecodedImages, labels: list[int]) -> None:
    """Checks the highest label, if it decides how many classes there are.

    Raises:
        ConfigError: there would be more classes than images.
    """
    highest = max(labels)
    where, count = images.source.where(labels.index(highest)), len(images.source)
    rule = f"would make {highest + 1} classes of {counted(count, 'image')}; number them without gaps"
    require(bool(images.num_classes) or highest < count, f"{where} label", highest, rule)


def check_square(images: DecodedImages, pixels: Tensor) -> None:
    """Checks that the images are squares, as far as the first one tells.

    Raises:
        ConfigError: it is not square.
    """
    height, width = pixels.shape[1:]
    rule = f"{images.source.where(0)} has {height} x {width} pixels, which is not square; state "
    rule += f"--data.image-size, such as {min(height, width)}, to cut one out"
    require(height == width, "data.image_size", 0, rule)


def different_sizes(images: DecodedImages, index: int, pixels: Tensor, first: Tensor) -> ConfigError:
    """The error for two images of different sizes."""
    where, here = images.source.where(index), " x ".join(map(str, pixels.shape[1:]))
    there = " x ".join(map(str, first.shape[1:]))
    rule = (
        f"{where} has {here} pixels, and {images.source.where(0)} {there}; state --data.image-size, such as"
    )
    return refuse("data.image_size", 0, f"{rule} {min(*pixels.shape[1:], *first.shape[1:])}, to resize all")


def check_memory(num_bytes: int) -> None:
    """Checks that resident images fit into this process's share of the machine's memory, and on its device.

    Each process of a node has the images in memory, at least until they are on its device.

    Raises:
        ConfigError: they do not.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // read_launch().local_world_size
    if torch.cuda.is_available():
        memory = min(memory, torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    fits = num_bytes <= MEMORY_SHARE * memory
    rule = f"needs {num_bytes / 1e9:.1f} GB of {memory / 1e9:.1f} GB in each process"
    require(fits, "data.storage", "resident", f"{rule}; use --data.storage streamed")


def with_facts(images: DecodedImages, facts: ImageFacts) -> DecodedImages:
    """The same images, each checked against, and brought to, what is known of the set."""
    return replace(images, channels=facts.channels, size=facts.size, num_classes=len(facts.classes))
