"""A picture of samples: every image with its label and the network's prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lockstep.report.figure_style import GREY, INK, RED

# All in pixels.
IMAGE_SIDE = 112  # about; an image is enlarged by a whole number, so that its own pixels stay square
MARGIN = 16
TITLE_HEIGHT, CAPTION_HEIGHT = 88, 64
MIN_WIDTH = 720  # for the title
LARGE_FONT, SMALL_FONT = 19, 13


def draw_contact_sheet(
    images: np.ndarray, labels: Sequence[str], predictions: Sequence[str], notes: Sequence[str], title: str
) -> Image.Image:
    """Every image above its label, or above 'label → prediction' in red, and a note.

    Drawn with PIL: there may be hundreds of images, for which matplotlib takes ten times as long.

    Args:
        images: uint8 (samples, height, width); without samples, the picture is only the title.
        labels: the name of the true class of each sample.
        predictions: the name of the network's class for each sample.
        notes: a short line for each sample.
        title: one or two lines.
    """
    enlarged = max(1, IMAGE_SIDE // max(images.shape[1:]))
    height, width = (enlarged * side for side in images.shape[1:])
    tile_height, tile_width = height + CAPTION_HEIGHT, width + 2 * MARGIN
    columns = max(math.ceil(MIN_WIDTH / tile_width), math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * tile_width, TITLE_HEIGHT + rows * tile_height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, TITLE_HEIGHT // 2), title, INK, _font(LARGE_FONT), anchor="lm", spacing=8)
    large, small = _font(LARGE_FONT), _font(SMALL_FONT)
    for index, (label, prediction, note) in enumerate(zip(labels, predictions, notes, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * tile_width + MARGIN, TITLE_HEIGHT + row * tile_height
        image = Image.fromarray(255 - images[index]).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(image, (left, top))
        middle, bottom = left + width // 2, top + height
        text, ink = (label, INK) if label == prediction else (f"{label} → {prediction}", RED)
        pen.text((middle, bottom + 4), text, ink, large, anchor="ma")
        pen.text((middle, bottom + 30), note, GREY, small, anchor="ma")
    return sheet


def _font(pixels: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib's pictures, `pixels` high."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", pixels)
