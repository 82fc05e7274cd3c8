"""Image sets as a user makes them in a function, for --data.name own_images:FUNCTION."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset


class Patches:
    """Arrays of bytes, (8, 8, 3), whose class is the brightest colour."""

    def __init__(self, count: int, label: Any = int) -> None:
        self.count, self.label = count, label

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        pixels = np.random.default_rng(index).integers(0, 128, (8, 8, 3), dtype=np.uint8)
        pixels[..., index % 3] += 100
        return pixels, self.label(index % 3)


def train_only(count: int = 12) -> Patches:
    return Patches(count)


def pair() -> tuple[Patches, Patches]:
    return Patches(12), Patches(6)


def named() -> dict[str, Any]:
    return {"train": Patches(12, torch.tensor), "test": Patches(6, np.int64), "classes": ["r", "g", "b"]}


def empty() -> Patches:
    return Patches(0)


def fractions() -> Patches:
    return Patches(12, float)


def too_many() -> dict[str, Any]:
    return {"train": Patches(12), "classes": ["r", "g"]}


def misspelt() -> dict[str, Any]:
    return {"trian": Patches(12)}


def nothing() -> None:
    return None


class Noisy(Patches):
    """Changes at each read, as with random crops."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        pixels, label = super().__getitem__(index)
        return pixels + np.random.randint(0, 20, pixels.shape).astype(np.uint8), label


def noisy() -> tuple[Noisy, Patches]:
    return Noisy(12), Patches(6)


class Failing(Patches):
    """Cannot read one of its images."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index == 7:
            raise ValueError("no picture 7")
        return super().__getitem__(index)


def failing() -> Failing:
    return Failing(12)


def one_name() -> dict[str, Any]:
    return {"train": Patches(12), "classes": "rgb"}


def far_apart() -> Patches:
    return Patches(12, lambda label: label * 1000)


class Named(Patches):
    """Names its classes, as torchvision's sets do."""

    def __init__(self, count: int, classes: list[str]) -> None:
        super().__init__(count)
        self.classes = classes


def in_another_order() -> tuple[Named, Named]:
    return Named(12, ["r", "g", "b"]), Named(6, ["r", "b", "g"])


class Endless(IterableDataset):
    """Has no samples by number."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def endless() -> tuple[Patches, Endless]:
    return Patches(12), Endless()
