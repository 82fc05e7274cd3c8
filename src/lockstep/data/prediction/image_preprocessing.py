"""From an image of any kind and size to the input of a model, as the test images of its run are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from lockstep.data.batches import normalised
from lockstep.data.image_measures import DIGIT_FACTS, ImageFacts, has_bright_border
from lockstep.data.images.image_pixels import fitted, pixels_of, plain_image, read_image, size_of
from lockstep.errors import counted, refuse

InvertName = Literal["auto", "yes", "no"]
"""Which images are inverted; auto: those with a bright border, where the training set has none."""
Change = Literal["inverted", "resized", "cropped"]
"""How an image was made like the training images."""
RARE = 0.01
"""A training set has no bright borders if fewer of its images than this fraction have one."""


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """Brings an image to the channels and the size of the training images, and normalises it."""

    facts: ImageFacts
    """What was measured on the training images."""
    invert: InvertName = "auto"
    """People write with dark ink on white paper, and MNIST's digits are bright on black."""

    def __call__(self, image: Any) -> Tensor:
        """The input of a model, float32 (channels, size, size).

        Args:
            image: a file; a PIL image; an array (height, width) or (height, width, channels), or a tensor
                (height, width) or (channels, height, width), both uint8.

        Raises:
            UnreadableImage: the file is not an image.
            ConfigError: it is none of these, or its channels do not fit.
        """
        pixels, _ = self.pixels("image", read_image(image) if isinstance(image, Path) else image)
        return self.normalise(pixels)

    def pixels(self, where: str, image: Any) -> tuple[Tensor, list[Change]]:
        """The pixels of an image, uint8 (channels, size, size), and how they were changed.

        Raises:
            ConfigError: it is not an image, or its channels do not fit; it names `where`.
        """
        size = self.facts.size
        plain = plain_image(where, image)
        height, width = size_of(plain)
        pixels = self._with_channels(where, pixels_of(fitted(plain, size)))
        changes: list[Change] = []
        if (height, width) != (size, size):
            changes.append("resized" if height == width else "cropped")
        if self._is_inverted(pixels):
            changes.append("inverted")
            pixels = 255 - pixels
        return pixels, changes

    def normalise(self, pixels: Tensor) -> Tensor:
        """The inputs of a model, float32 (..., channels, size, size), from uint8 of the same shape."""
        if self.facts.size == DIGIT_FACTS.size and self.facts.mean == DIGIT_FACTS.mean:
            return normalised(pixels.squeeze(-3))  # with the same bits as an evaluation
        return self.facts.normaliser(pixels.device)(pixels)

    def _is_inverted(self, pixels: Tensor) -> bool:
        if self.invert != "auto":
            return self.invert == "yes"
        share = self.facts.bright_borders
        return share is not None and share < RARE and bool(has_bright_border(pixels[None]))

    def _with_channels(self, where: str, pixels: Tensor) -> Tensor:
        have, wanted = len(pixels), self.facts.channels
        if have == wanted:
            return pixels
        if (have, wanted) == (1, 3):
            return pixels.expand(3, -1, -1)
        if (have, wanted) == (3, 1):
            colours = Image.fromarray(pixels.movedim(0, -1).contiguous().numpy())
            return pixels_of(colours.convert("L"))
        rule = f"but the training images have {wanted}; convert one kind into the other"
        raise refuse(where, counted(have, "channel"), rule)
