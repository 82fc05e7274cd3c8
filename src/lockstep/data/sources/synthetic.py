"""A small generated data set that needs no files: ten blurred random patterns under noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lockstep.config import IMAGE_SIZE, NUM_CLASSES
from lockstep.data.images.image_store import ImageStore
from lockstep.plan import Purpose, random_words

NUM_TRAIN, NUM_TEST = 2048, 512
NOISE = 0.8  # the fraction of an image that is noise: hard enough that one step does not learn it


class SyntheticSource:
    """The training images are the first `NUM_TRAIN` samples, the test images the next `NUM_TEST`."""

    def missing_files(self, root: Path) -> list[Path]:
        """None: it has no files."""
        return []

    def open(self, root: Path, seed: int) -> tuple[SyntheticImages, SyntheticImages]:
        """The training and the test images."""
        return (
            SyntheticImages(seed=seed, first_id=0, count=NUM_TRAIN),
            SyntheticImages(seed=seed, first_id=NUM_TRAIN, count=NUM_TEST),
        )


@dataclass(frozen=True, kw_only=True)
class SyntheticImages:
    """Consecutive samples, which are generated when they are loaded."""

    seed: int
    first_id: int
    count: int

    def __len__(self) -> int:
        return self.count

    def first(self, count: int) -> SyntheticImages:
        """Only the first `count` of them."""
        return replace(self, count=count)

    def load(self) -> ImageStore:
        """All of them, in memory."""
        images, labels = synthetic_images(self.seed, self.count, self.first_id)
        return ImageStore(images=torch.from_numpy(images), labels=torch.from_numpy(labels).long())


def synthetic_images(seed: int, count: int, first_id: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`count` images (count, 28, 28) and labels (count,), each a pure function of (seed, sample id)."""
    ids = np.arange(first_id, first_id + count, dtype=np.int64)
    labels = ids % NUM_CLASSES
    patterns = _bytes(seed, 0, np.arange(NUM_CLASSES, dtype=np.int64), 49).reshape(-1, 7, 7)
    patterns = np.where(patterns > 127, 255, 0).repeat(4, axis=1).repeat(4, axis=2)  # (10, 28, 28)
    noise = _bytes(seed, 1, ids, IMAGE_SIZE**2).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    images = (1 - NOISE) * patterns[labels] + NOISE * noise
    return images.astype(np.uint8), labels.astype(np.uint8)


def _bytes(seed: int, time: int, ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` uniform bytes for each id, shape (ids, count)."""
    blocks = np.arange(-(-count // 4), dtype=np.int64)
    words = random_words(seed, Purpose.SYNTHETIC_DATA, time, ids[:, None], blocks[None, :])
    return (np.stack(words, axis=-1).reshape(len(ids), -1) >> 24)[:, :count]
