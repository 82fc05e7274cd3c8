"""A picture of samples: every image with its label and what the network made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lockstep.report.figures import GREY, INK, RED

ENLARGED = 4
SIDE, MARGIN = 28 * ENLARGED, 16  # pixels
TILE_WIDTH, TILE_HEIGHT, HEAD = SIDE + 2 * MARGIN, SIDE + 64, 88
MIN_COLUMNS = 5  # a title needs as much


def draw_contact_sheet(
    images: np.ndarray, labels: Sequence[int], predictions: Sequence[int], notes: Sequence[str], title: str
) -> Image.Image:
    """Every image above its label, or 'label → prediction' in red, and a note.

    Drawn with PIL: there may be hundreds, for which matplotlib takes ten times as long.

    Args:
        images: uint8 (samples, 28, 28); without any, the picture is its title.
        labels: the true digits.
        predictions: the network's digits.
        notes: a short line for each.
        title: one or two lines.
    """
    columns = max(MIN_COLUMNS, math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * TILE_WIDTH, HEAD + rows * TILE_HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, HEAD // 2), title, INK, _font(19), anchor="lm", spacing=8)
    small, large = _font(13), _font(19)
    for index, (label, prediction, note) in enumerate(zip(labels, predictions, notes, strict=True)):
        left, top = index % columns * TILE_WIDTH + MARGIN, HEAD + index // columns * TILE_HEIGHT
        digit = Image.fromarray(255 - images[index]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(digit, (left, top))
        middle, below = left + SIDE // 2, top + SIDE
        text, ink = (f"{label}", INK) if label == prediction else (f"{label} → {prediction}", RED)
        pen.text((middle, below + 4), text, ink, large, anchor="ma")
        pen.text((middle, below + 30), note, GREY, small, anchor="ma")
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of the other pictures, so many pixels high."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
