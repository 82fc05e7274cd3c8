"""Image sets as a user makes them in a function, for --data.name own_images:FUNCTION."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


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
