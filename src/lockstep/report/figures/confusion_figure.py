"""Draws a confusion matrix; task/classification.py computes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from lockstep.report.figures.figure_style import FAINT, GREY, INK, fitting_font, font_of_height, shortened

MAX_NUMBERED = 25
"""With more classes than this, cells are too small for numbers and names."""
PALE = (245, 245, 245)
"""Of the diagonal."""

# In pixels.
SIDE = 844  # of the matrix, or a few less: cells are whole pixels
FONT, TITLE_FONT = 20, 23
TITLE_HEIGHT, MARGIN, GAP = 110, 30, 10


def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Image.Image:
    """How often each label (rows) got each prediction (columns). Only mistakes are coloured.

    Drawn with PIL, which takes a tenth of matplotlib's time for so many numbers.

    Args:
        counts: int (label, prediction).
        classes: their names; of many classes, some of their numbers are shown.
        title: one or two lines, such as the run and the step.
    """
    number = len(counts)
    is_numbered = number <= MAX_NUMBERED
    names = {
        index: shortened(name, 12) if is_numbered else str(index)
        for index, name in enumerate(classes)
        if is_numbered or index % (number // 10) == 0
    }
    font = font_of_height(FONT)
    widest = round(max(map(font.getlength, names.values())))
    angle = 45 if is_numbered and widest > 2 * FONT else 0
    left = MARGIN + FONT + GAP + widest + GAP
    bottom = GAP + (widest if angle else FONT) + GAP + FONT + MARGIN
    side = SIDE // number * number or SIDE
    sheet = Image.new("RGB", (left + side + MARGIN, TITLE_HEIGHT + side + bottom), "white")
    pen = ImageDraw.Draw(sheet)
    title_font = fitting_font(title, TITLE_FONT, sheet.width - 2 * MARGIN)
    pen.text((MARGIN, TITLE_HEIGHT // 2), title, INK, title_font, anchor="lm", spacing=10)
    sheet.paste(_matrix(counts, side, is_numbered), (left, TITLE_HEIGHT))
    cell, end = side / number, TITLE_HEIGHT + side
    for index, name in names.items():
        middle = round((index + 0.5) * cell)
        pen.text((left - GAP, TITLE_HEIGHT + middle), name, INK, font, anchor="rm")
        text = _turned(name, font, angle)
        x = left + middle - (text.width - FONT // 2 if angle else text.width // 2)
        sheet.paste(INK, (x, end + GAP), text)
    for name, angle, x, y in (
        ("prediction", 0, left + side // 2, sheet.height - MARGIN - FONT // 2),
        ("label", 90, MARGIN + FONT // 2, TITLE_HEIGHT + side // 2),
    ):
        text = _turned(name, font, angle)
        sheet.paste(INK, (x - text.width // 2, y - text.height // 2), text)
    return sheet


def _matrix(counts: np.ndarray, side: int, is_numbered: bool) -> Image.Image:
    """The cells, and in them their numbers."""
    number = len(counts)
    is_right = np.eye(number, dtype=bool)
    mistakes = np.where(is_right, 0, counts)
    darkest = 1.4 * max(1, mistakes.max())  # no cell gets so dark: it would hide its number
    colours = colormaps["Oranges"](mistakes / darkest, bytes=True)[..., :3]
    colours[mistakes == 0] = 255
    colours[is_right] = PALE
    kind = Image.Resampling.NEAREST if number <= side else Image.Resampling.BOX
    matrix = Image.fromarray(colours).resize((side, side), kind)
    pen = ImageDraw.Draw(matrix)
    pen.rectangle((0, 0, side - 1, side - 1), outline=FAINT)
    if is_numbered:
        cell = side // number
        for edge in range(cell, side, cell):
            pen.line((edge, 0, edge, side), FAINT)
            pen.line((0, edge, side, edge), FAINT)
        large, small = (font_of_height(min(most, round(cell / 3))) for most in (FONT, FONT - 4))
        for label, prediction in np.argwhere(counts > 0).tolist():
            place = ((prediction + 0.5) * cell, (label + 0.5) * cell)
            ink, font = (GREY, small) if label == prediction else (INK, large)
            pen.text(place, f"{counts[label, prediction]:,}", ink, font, anchor="mm")
    return matrix


def _turned(text: str, font: ImageFont.FreeTypeFont, angle: int) -> Image.Image:
    """A text as a mask, turned to the left by degrees."""
    mask = Image.new("L", (round(font.getlength(text)) + 2, FONT + 4))
    ImageDraw.Draw(mask).text((1, mask.height // 2), text, 255, font, anchor="lm")
    return mask.rotate(angle, Image.Resampling.BICUBIC, expand=True)
