"""What is measured on the training images: classes, channels, size, mean and deviation of their pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lockstep.config import IMAGE_SIZE, NUM_CLASSES
from lockstep.data.batches import PIXEL_MEAN, PIXEL_STD

NUM_VALUES = 256  # of a byte


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a model, and the normalisation of its inputs, need to know of a set of images."""

    classes: tuple[str, ...]
    channels: int
    size: int
    """Height and width, in pixels."""
    mean: tuple[float, ...]
    """Of each channel, over all training pixels, on a scale from 0 to 1."""
    std: tuple[float, ...]
    """The deviation of each channel, on the same scale; 1 for a channel whose pixels are all the same."""
    has_test: bool = True
    """Whether there are test images."""
    bright_borders: float | None = None
    """The fraction of images whose border is bright; None if that was not measured."""

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return {
            "classes": list(self.classes),
            "channels": self.channels,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            **({} if self.bright_borders is None else {"bright_borders": self.bright_borders}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImageFacts | None:
        """The facts in the description of a data set; None if it has none."""
        if "channels" not in values:
            return None
        return cls(
            classes=tuple(values["classes"]),
            channels=values["channels"],
            size=values["size"],
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            has_test=values["num_test"] > 0,
            bright_borders=values.get("bright_borders"),
        )

    def normaliser(self, device: torch.device) -> Normaliser:
        """What turns pixels on a device into the inputs of a model."""
        mean, std = (torch.tensor(each, device=device) * 255 for each in (self.mean, self.std))
        return Normaliser(mean=mean[:, None, None], std=std[:, None, None])


DIGIT_FACTS = ImageFacts(
    classes=tuple(str(digit) for digit in range(NUM_CLASSES)),
    channels=1,
    size=IMAGE_SIZE,
    mean=(PIXEL_MEAN / 255,),
    std=(PIXEL_STD / 255,),
    bright_borders=0.0,
)
"""Of the sets of digits, which are all normalised like MNIST."""


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Subtracts the mean of each channel and divides by its deviation, both float32 (channels, 1, 1)."""

    mean: Tensor
    std: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """The input of a model, float32 (..., channels, size, size), from uint8 of the same shape."""
        return pixels.float().sub_(self.mean).div_(self.std)


def count_values(pixels: Tensor) -> Tensor:
    """How often each value occurs, int64 (channels, 256), in pixels (images, channels, height, width)."""
    flat = pixels.movedim(1, 0).flatten(1)
    return torch.stack([torch.bincount(channel, minlength=NUM_VALUES) for channel in flat])


def has_bright_border(pixels: Tensor) -> Tensor:
    """Whether the outermost pixels are on average brighter than half, bool (images,).

    Args:
        pixels: uint8 (images, channels, height, width).
    """
    border = torch.ones(pixels.shape[-2:], dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return pixels[:, :, border].float().mean(dim=(1, 2)) > 127.5


def mean_and_std(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, on a scale from 0 to 1, from `count_values` of all images.

    Both come from whole numbers, so they are the same on every machine and in whatever order images are read.
    """
    means, deviations = [], []
    for channel in counts.tolist():
        number = sum(channel)
        total = sum(value * count for value, count in enumerate(channel))
        squares = sum(value * value * count for value, count in enumerate(channel))
        variance = (number * squares - total * total) / (number * number)
        means.append(total / (255 * number))
        deviations.append(math.sqrt(variance) / 255 or 1.0)
    return tuple(means), tuple(deviations)
