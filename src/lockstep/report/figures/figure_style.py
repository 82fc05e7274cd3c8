"""What all pictures share: colours, title and file format. Needs matplotlib, but no torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from lockstep.runs import write_atomically

# Colours that colour-blind people can tell apart: Okabe and Ito, "Color Universal Design", 2008.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INK, GREY, FAINT = "#222222", "#777777", "#dddddd"
DOTS_PER_INCH = 150
TITLE_INCHES = 0.65
"""The height of a title of up to two lines."""


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure, its size in inches with the title. Does not touch matplotlib's global state."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    middle = 1 - TITLE_INCHES / 2 / height
    text = figure.text(0.25 / width, middle, title, va="center", fontsize=11, linespacing=1.4, color=INK)
    text.set_parse_math(False)  # a run may be named '$x$'
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the path's suffix."""
    buffer = io.BytesIO()
    with quiet_about_glyphs():
        figure.savefig(buffer, dpi="figure", format=path.suffix.removeprefix("."))
    write_atomically(path, buffer.getvalue())


def picture_of(figure: Figure) -> Image.Image:
    """A figure as pixels."""
    canvas = FigureCanvasAgg(figure)
    with quiet_about_glyphs():
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


@contextmanager
def quiet_about_glyphs() -> Iterator[None]:
    """A run may be named in a script that the font lacks: the boxes in the picture tell that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        yield


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a PNG file, which takes half as long with the least compression and makes it a sixth larger."""
    buffer = io.BytesIO()
    picture.save(buffer, format="png", compress_level=1, dpi=(DOTS_PER_INCH, DOTS_PER_INCH))
    write_atomically(path, buffer.getvalue())


def font_of_height(pixels: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib's pictures, for those that PIL draws."""
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(font), pixels)  # Pillow 10.0 takes no Path


def fitting_font(text: str, pixels: int, width: int) -> ImageFont.FreeTypeFont:
    """That font, or a smaller one, so that each line of a text fits into a width in pixels."""
    font = font_of_height(pixels)
    longest = max(map(font.getlength, text.splitlines()), default=0)
    return font if longest <= width else font_of_height(int(pixels * width / longest))


def shortened(name: str, length: int) -> str:
    """A long name without its middle: runs mostly differ at one end of their names."""
    keep = (length - 1) // 2
    return name if len(name) <= length else f"{name[:keep]}…{name[-keep:]}"
