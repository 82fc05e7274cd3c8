"""Draws a confusion matrix; task/classification.py computes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lockstep.report.figures.figure_style import (
    DOTS_PER_INCH,
    FAINT,
    GREY,
    INK,
    TITLE_INCHES,
    new_figure,
    shortened,
)

MAX_NUMBERED = 25
"""With more classes than this, cells are too small for numbers and names."""
PLACE = (0.09, 0.09, 0.88, 0.81)
"""Left, bottom, width and height of the cells, if the names are short; in parts of the figure."""
EDGE = 0.07
"""The least space around what is written, in inches."""


def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """How often each label (rows) got each prediction (columns). Only mistakes are coloured.

    Args:
        counts: int (label, prediction).
        classes: their names.
        title: one or two lines, such as the run and the step.
    """
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    figure = new_figure(6.4, 6.4 + TITLE_INCHES, title)
    axes = figure.add_axes(PLACE)
    darkest = 1.4 * max(1, mistakes.max())  # no cell gets so dark: it would hide its number
    axes.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=darkest)
    axes.imshow(np.ma.masked_equal(np.eye(len(counts)), 0), cmap="Greys", vmin=0, vmax=12)
    is_numbered = len(counts) <= MAX_NUMBERED
    for label, prediction in np.argwhere(counts > 0) if is_numbered else ():
        is_right = label == prediction
        axes.text(
            prediction,
            label,
            f"{counts[label, prediction]:,}",
            ha="center",
            va="center",
            color=GREY if is_right else INK,
            fontsize=8 if is_right else 10,
        )
    if is_numbered:
        names = [shortened(name, 12) for name in classes]
        rotation = 0 if max(map(len, names)) <= 2 else 45
        axes.set_xticks(range(len(counts)), names, rotation=rotation, ha="right" if rotation else "center")
        axes.set_yticks(range(len(counts)), names)
    edges = np.arange(len(counts) + 1) - 0.5
    first, last = edges[[0, -1]]
    # Two collections of lines: a grid of ticks would make five artists for each line.
    axes.vlines(edges, first, last, color=FAINT, linewidth=0.6, clip_on=False)
    axes.hlines(edges, first, last, color=FAINT, linewidth=0.6, clip_on=False)
    axes.set(xlim=(first, last), ylim=(last, first))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    _make_room(figure, axes)
    return figure


def _make_room(figure: Figure, axes: Axes) -> None:
    """Moves the left and the lower edge inwards, if the names of the classes do not fit beside them."""
    written = axes.get_tightbbox()
    assert written is not None, "the axes are visible"
    wide, high = figure.bbox.size
    right = max(0.0, EDGE * DOTS_PER_INCH - written.x0) / wide
    up = max(0.0, EDGE * DOTS_PER_INCH - written.y0) / high
    left, bottom, width, height = PLACE
    axes.set_position((left + right, bottom + up, width - right, height - up))
