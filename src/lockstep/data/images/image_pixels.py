"""From an image of any kind to bytes of one size: PIL images, arrays and tensors."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lockstep.config import NoFile, error_text, read_file
from lockstep.errors import refuse

GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")
"""PIL's modes with more than eight bits; those with 16 bits begin with 'I;16'."""


class UnreadableImage(ValueError):
    """There is no image, or a damaged one; the message says why."""


class UnreadableFile(UnreadableImage):
    """The disk does not give the file, whose image may well be whole."""


def read_image(path: Path) -> Image.Image:
    """The image in a file.

    Raises:
        UnreadableImage: there is none that can be read.
        UnreadableFile: nobody knows.
    """
    try:
        with Image.open(BytesIO(read_file(path))) as image:
            return image.copy()  # which reads the pixels
    except NoFile as error:
        raise UnreadableImage(f"it {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # PIL's own have no number
            raise UnreadableFile(error_text(error)) from error
        # PIL shows the buffer as an object.
        raise UnreadableImage(" ".join(re.sub(r" <_io\.BytesIO .*?>", "", str(error)).split())) from error


def plain_image(where: str, image: Any) -> Image.Image | Tensor:
    """An image as a PIL image in mode L or RGB, or a tensor, uint8 (channels, height, width).

    Args:
        where: which image it is, for messages.
        image: a PIL image; an array (height, width) or (height, width, channels), or a tensor (height, width)
            or (channels, height, width), both uint8.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(image, Image.Image):
        if image.mode in DEEP_MODES or image.mode.startswith("I;16"):
            raise refuse(
                where, f"mode {image.mode}", "has more than 8 bits per channel; convert it to 8 bits"
            )
        mode = "L" if image.mode in GREY_MODES else "RGB"
        return image if image.mode == mode else image.convert(mode)
    if not isinstance(image, np.ndarray | Tensor):
        rule = "must be a PIL image, or an array or tensor of uint8; for other inputs, make a lockstep.Task"
        raise refuse(where, type(image).__name__, rule)
    shape, kind = tuple(image.shape), str(image.dtype).removeprefix("torch.")
    if kind != "uint8" or len(shape) not in (2, 3) or 0 in shape:
        rule = "must be uint8, (height, width) or with channels; for other inputs, make a lockstep.Task"
        raise refuse(where, f"{kind} {shape}", rule)
    pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if pixels.ndim == 2:
        return pixels[None]
    return pixels if isinstance(image, Tensor) else pixels.movedim(-1, 0).contiguous()


def pixels_of(image: Image.Image | Tensor) -> Tensor:
    """The pixels of a plain image, uint8 (channels, height, width)."""
    if isinstance(image, Tensor):
        return image
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0).contiguous()


def size_of(image: Image.Image | Tensor) -> tuple[int, int]:
    """Height and width of a plain image."""
    return image.shape[1:] if isinstance(image, Tensor) else image.size[::-1]  # type: ignore[return-value]


def fitted(image: Image.Image | Tensor, size: int) -> Image.Image | Tensor:
    """The central square of a plain image, with its shorter side resized to `size`.

    PIL resizes, bilinearly with antialiasing, also tensors: torch rounds bytes differently on different CPUs.
    """
    height, width = size_of(image)
    if (height, width) == (size, size):
        return image
    if isinstance(image, Tensor):
        planes = [Image.fromarray(plane.numpy()) for plane in image]
        return torch.cat([pixels_of(_square(plane, size)) for plane in planes])
    return _square(image, size)


def _square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    shorter = min(width, height)
    width, height = size * width // shorter, size * height // shorter
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))
