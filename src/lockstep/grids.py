"""Pictures of an evaluation: the confusions, and images with what the network made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lockstep.figures import FAINT, GREY, INK, RED, TITLE_INCHES, new_figure

SIDE, MARGIN = 28, 4
CELL_WIDTH, CELL_HEIGHT, CELL_INCHES = SIDE + 2 * MARGIN, SIDE + 18, 1.15
"""Of an image with the two lines below it: pixels of the image, and the width in inches."""


def draw_confusion(counts: np.ndarray, title: str) -> Figure:
    """How often each label (rows) got each prediction (columns). Colour is for the mistakes alone.

    Args:
        counts: int (label, prediction).
        title: says of what and when.
    """
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    figure = new_figure(6.4, 6.4 + TITLE_INCHES, title)
    axes = figure.add_axes((0.09, 0.09, 0.88, 0.81))
    darkest = 1.4 * max(1, mistakes.max())  # not to be reached: it would hide the ink
    axes.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=darkest)
    axes.imshow(np.ma.masked_equal(np.eye(len(counts)), 0), cmap="Greys", vmin=0, vmax=12)
    for label, prediction in np.argwhere(counts > 0):
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
    places = range(len(counts))
    axes.set_xticks(places, [str(place) for place in places])
    axes.set_yticks(places, [str(place) for place in places])
    axes.set_xticks(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    return figure


def draw_digits(
    images: np.ndarray, labels: Sequence[int], predictions: Sequence[int], notes: Sequence[str], title: str
) -> Figure:
    """Every image above its label, or 'label → prediction' in red, and a note.

    Args:
        images: uint8 (samples, 28, 28); without any, the picture is its title.
        labels: the true digits.
        predictions: the network's digits.
        notes: a short line for each.
        title: says of what and when.
    """
    columns = max(5, math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    sheet = np.zeros((max(1, rows) * CELL_HEIGHT, columns * CELL_WIDTH), dtype=np.uint8)
    width, height = columns * CELL_INCHES, rows * CELL_INCHES * CELL_HEIGHT / CELL_WIDTH
    figure = new_figure(width, height + TITLE_INCHES, title)
    axes = figure.add_axes((0, 0, 1, height / (height + TITLE_INCHES)))
    axes.set_axis_off()
    for index, (label, prediction, note) in enumerate(zip(labels, predictions, notes, strict=True)):
        top, left = index // columns * CELL_HEIGHT, index % columns * CELL_WIDTH + MARGIN
        sheet[top : top + SIDE, left : left + SIDE] = images[index]
        x, y = left + SIDE / 2, top + SIDE
        text, ink = (f"{label}", INK) if label == prediction else (f"{label} → {prediction}", RED)
        axes.text(x, y + 1, text, ha="center", va="top", color=ink, fontsize=10)
        axes.text(x, y + 9, note, ha="center", va="top", color=GREY, fontsize=7)
    # One image: an axes for each would take seconds.
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    return figure
