"""A picture of samples: every image with its label and the network's prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lockstep.report.figures.figure_style import GREY, INK, RED, fitting_font, font_of_height

# All in pixels.
IMAGE_SIDE = 112  # about; an image is enlarged by a whole number, so that its own pixels stay square
MAX_SIDE = 224  # larger images are made smaller
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
        images: uint8 (samples, height, width), drawn dark on white, or (samples, height, width, 1 or 3),
            drawn as they are. Without samples, the picture is only the title.
        labels: the name of the true class of each sample.
        predictions: the name of the network's class for each sample.
        notes: a short line for each sample.
        title: one or two lines.
    """
    longer = max(images.shape[1:3])
    factor = max(1, IMAGE_SIDE // longer) if longer <= MAX_SIDE else MAX_SIDE / longer
    height, width = (round(factor * side) for side in images.shape[1:3])
    tile_height, tile_width = height + CAPTION_HEIGHT, width + 2 * MARGIN
    columns = max(math.ceil(MIN_WIDTH / tile_width), math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * tile_width, TITLE_HEIGHT + rows * tile_height), "white")
    pen = ImageDraw.Draw(sheet)
    title_font = fitting_font(title, LARGE_FONT, sheet.width - 2 * MARGIN)
    pen.text((MARGIN, TITLE_HEIGHT // 2), title, INK, title_font, anchor="lm", spacing=8)
    large, small = font_of_height(LARGE_FONT), font_of_height(SMALL_FONT)
    for index, (label, prediction, note) in enumerate(zip(labels, predictions, notes, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * tile_width + MARGIN, TITLE_HEIGHT + row * tile_height
        pixels = 255 - images[index] if images.ndim == 3 else images[index]
        kind = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
        image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
        sheet.paste(image.resize((width, height), kind), (left, top))
        middle, bottom = left + width // 2, top + height
        text, ink = (label, INK) if label == prediction else (f"{label} → {prediction}", RED)
        font = large if pen.textlength(text, large) <= tile_width else small
        pen.text((middle, bottom + 4), _cut(text, pen, font, tile_width), ink, font, anchor="ma")
        pen.text((middle, bottom + 30), note, GREY, small, anchor="ma")
    return sheet


def _cut(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text without its end, if that does not fit into a width."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
