"""Labelled images, in memory or on disk and read by sample id, and the data set made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lockstep.data.images.idx import IdxFile


@dataclass(frozen=True, kw_only=True)
class ImageStore:
    """Images, uint8, and labels (samples,), int64, in memory or on a device.

    Digits are (samples, 28, 28), any other images (samples, channels, size, size).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> ImageStore:
        """The same images on a device."""
        return ImageStore(images=self.images.to(device), labels=self.labels.to(device))

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images (*ids, ...) and labels (*ids) of sample ids of any shape."""
        # index_select copies whole rows. Indexing with a tensor copies pixel by pixel.
        flat = ids.flatten().to(self.labels.device)
        images, labels = self.images.index_select(0, flat), self.labels.index_select(0, flat)
        return images.reshape(*ids.shape, *images.shape[1:]), labels.reshape(ids.shape)

    def slice(self, start: int, stop: int) -> tuple[NDArray, NDArray]:
        """Consecutive images (samples, 28, 28) and labels (samples,), copied only from a device."""
        return self.images[start:stop].cpu().numpy(), self.labels[start:stop].cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """The first `count` images in a pair of IDX files, read from disk each time."""

    images: IdxFile
    labels: IdxFile
    count: int
    is_transposed: bool = False
    """Whether the file holds each image with rows and columns swapped, as EMNIST's do."""

    def __len__(self) -> int:
        return self.count

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Images (*ids, 28, 28) and labels (*ids) of sample ids of any shape."""
        images, labels = map(torch.from_numpy, self._rows(ids.ravel().numpy()))
        return images.reshape(*ids.shape, *images.shape[1:]), labels.reshape(ids.shape)

    def first(self, count: int) -> ImageFiles:
        """Only the first `count` of them."""
        return replace(self, count=count)

    def slice(self, start: int, stop: int) -> tuple[NDArray, NDArray]:
        """Consecutive images (samples, 28, 28) and labels (samples,), read without torch."""
        return self._rows(np.arange(start, min(stop, self.count)))

    def load(self) -> ImageStore:
        """All of them, in memory."""
        arrays = self._upright(self.images.first(self.count)), self.all_labels()
        images, labels = map(torch.from_numpy, arrays)
        return ImageStore(images=images, labels=labels)

    def all_labels(self) -> NDArray[np.int64]:
        """The labels of all of them, (samples,)."""
        return self._digits(self.labels.first(self.count))

    def _rows(self, ids: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        return self._upright(self.images.rows(ids)), self._digits(self.labels.rows(ids))

    def _upright(self, images: NDArray) -> NDArray:
        return np.ascontiguousarray(images.transpose(0, 2, 1)) if self.is_transposed else images

    def _digits(self, labels: NDArray) -> NDArray[np.int64]:
        column = labels if labels.ndim == 1 else labels[:, 0]  # QMNIST: column 0 is the digit
        return column.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class StoredImages:
    """The same images as a map-style Dataset: pixels, uint8 (28, 28), and labels."""

    images: ImageStore | ImageFiles

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels, labels = self.images.read(torch.tensor([index]))
        return pixels[0], int(labels[0])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The training images, in memory or on disk, and the test images, in memory."""

    name: str
    train: ImageStore | ImageFiles
    test: ImageStore
