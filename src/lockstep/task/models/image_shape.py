"""What a model must fit: the shape of the images, and the number of classes."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.config import IMAGE_SIZE, NUM_CLASSES


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """Images (channels, size, size) in a number of classes; by default those of MNIST and its look-alikes."""

    channels: int = 1
    """1 for grey values, 3 for colours."""
    size: int = IMAGE_SIZE
    """Height and width, in pixels."""
    num_classes: int = NUM_CLASSES
    """Labels are 0 to num_classes - 1."""
