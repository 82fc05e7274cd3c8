"""Images with labels as a source has them, of any size, and the same as bytes of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from lockstep.data.images.image_pixels import fitted, pixels_of, plain_image, size_of
from lockstep.errors import ConfigError, counted, refuse

PlainImage = Image.Image | Tensor


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The training or the test images of a source."""

    name: str
    """What they are, for messages, such as 'data/train' or 'CIFAR10 train'."""
    dataset: Any
    """A map-style Dataset whose samples are pairs (image, label)."""
    paths: Sequence[str] = ()
    """The file of each sample, if each has one. Such a set may be read by several threads."""
    folder: str = ""
    """The folder that these files are in, or below."""

    def __len__(self) -> int:
        return len(self.dataset)

    def where(self, index: int) -> str:
        """Which sample it is, for messages."""
        return self.paths[index] if self.paths else f"{self.name}[{index}]"

    def read(self, index: int) -> tuple[PlainImage, int]:
        """An image in one of two kinds, and its label.

        Raises:
            ConfigError: it is not a pair of an image and a label.
        """
        where, sample = self.where(index), self.dataset[index]
        if not (isinstance(sample, tuple | list) and len(sample) == 2):
            raise refuse(where, type(sample).__name__, "must be a pair (image, label)")
        return plain_image(where, sample[0]), whole_label(where, sample[1])


def whole_label(where: str, label: Any) -> int:
    """A label as an int.

    Raises:
        ConfigError: it is not an integer.
    """
    is_array = isinstance(label, Tensor | np.ndarray | np.generic)
    value = label.item() if is_array and label.ndim == 0 else label
    if isinstance(value, bool) or not isinstance(value, int):
        shown = f"{type(label).__name__} {label!r}" if len(repr(label)) < 40 else type(label).__name__
        raise refuse(f"{where} label", shown, "must be an integer, the number of a class from 0 on")
    return value


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """A map-style Dataset of pixels, uint8 (channels, size, size), and labels."""

    source: LabelledImages
    count: int
    """Only the first so many."""
    image_size: int = 0
    """The setting of that name."""
    channels: int = 0
    """How many channels all get: grey images are repeated to three. 0: each as it is."""
    size: int = 0
    """The size that all must have. 0: not checked."""
    num_classes: int = 0
    """Labels must be below. 0: not checked."""
    transform: Callable[[PlainImage], Any] | None = None
    """Changes each image before it is resized."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Raises ConfigError, if the image, its size or its label is wrong."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        image, label = self.source.read(index)
        where = self.source.where(index)
        if label < 0 or (self.num_classes and label >= self.num_classes):
            rule = f"is not a class; the classes are 0 to {self.num_classes - 1}" if self.num_classes else ""
            raise refuse(f"{where} label", label, rule or "must be an integer from 0 on")
        image = self._with_channels(where, image)
        if self.transform is not None:
            image = self._transformed(where, image)
        pixels = pixels_of(fitted(image, self.image_size) if self.image_size else image)
        if self.size and pixels.shape[1:] != (self.size, self.size):
            height, width = pixels.shape[1:]
            rule = f"but other images have {self.size} x {self.size}; state data.image_size to resize all"
            raise refuse(where, f"{height} x {width} pixels", rule)
        return pixels, label

    def _with_channels(self, where: str, image: PlainImage) -> PlainImage:
        have = image.shape[0] if isinstance(image, Tensor) else len(image.getbands())
        if self.channels in (0, have):
            return image
        if (have, self.channels) == (1, 3):
            return image.convert("RGB") if isinstance(image, Image.Image) else image.expand(3, -1, -1)
        rule = f"but the training images have {self.channels}; convert one kind into the other"
        raise refuse(where, counted(have, "channel"), rule)

    def _transformed(self, where: str, image: PlainImage) -> PlainImage:
        assert self.transform is not None
        changed = plain_image(f"{where} after data.transforms", self.transform(image))
        before, after = size_of(image), size_of(changed)
        wanted = self.image_size or self.size
        if after not in (before, (wanted, wanted)):
            made = f"they make {after[0]} x {after[1]} pixels of {where}, {before[0]} x {before[1]}"
            raise ConfigError(
                f"data.transforms: {made}, and the test images have {wanted} x {wanted}; "
                "make both the same with data.image_size"
            )
        return self._with_channels(where, changed)
