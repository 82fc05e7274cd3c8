"""What all pictures share: colours, title and file. What draws needs matplotlib, and no torch."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Colours that colour-blind people tell apart: Okabe and Ito, "Color Universal Design", 2008.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INK, GREY, FAINT = "#222222", "#777777", "#dddddd"
DOTS_PER_INCH = 150
TITLE_INCHES = 0.65
"""Height of a title, which is two lines at most."""


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of so many inches, its title included. matplotlib's global state is left alone."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    middle = 1 - TITLE_INCHES / 2 / height
    text = figure.text(0.25 / width, middle, title, va="center", fontsize=11, linespacing=1.4, color=INK)
    text.set_parse_math(False)  # a run may be named '$x$'
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format that the path ends in."""
    figure.savefig(path, dpi="figure")


def shortened(name: str, length: int) -> str:
    """A long name without its middle: what tells runs apart is mostly at an end."""
    keep = (length - 1) // 2
    return name if len(name) <= length else f"{name[:keep]}…{name[-keep:]}"
