"""Pictures of an evaluation: the confusions, and images with what the network made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lockstep.figures import FAINT, GREY, INK, RED, TITLE_INCHES, new_figure


def draw_confusion(counts: np.ndarray, title: str) -> Figure:
    """How often each label (rows) got each prediction (columns). Colour is for the mistakes alone.

    Args:
        counts: int (label, prediction).
        title: says of what and when.
    """
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    figure = new_figure(6.4, 6.6, title)
    axes = figure.add_axes((0.09, 0.09, 0.87, 0.83))
    highest = max(1, mistakes.max())
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=1.4 * highest)  # the darkest part would hide the ink
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
    columns = max(5, int(np.ceil(np.sqrt(len(images)))))
    rows = -(-len(images) // columns)
    cell_width, cell_height, side = 36, 46, images.shape[-1]
    sheet = np.zeros((max(1, rows * cell_height), columns * cell_width), dtype=np.uint8)
    width, height = columns * 1.15, rows * 1.15 * cell_height / cell_width
    figure = new_figure(width, height + TITLE_INCHES, title)
    axes = figure.add_axes((0, 0, 1, height / (height + TITLE_INCHES)))
    axes.set_axis_off()
    for index, (label, prediction, note) in enumerate(zip(labels, predictions, notes, strict=True)):
        top, left = index // columns * cell_height, index % columns * cell_width + (cell_width - side) // 2
        sheet[top : top + side, left : left + side] = images[index]
        is_right = label == prediction
        text, colour = (f"{label}", INK) if is_right else (f"{label} → {prediction}", RED)
        middle = left + side / 2
        axes.text(middle, top + side + 1, text, ha="center", va="top", color=colour, fontsize=10)
        axes.text(middle, top + side + 8, note, ha="center", va="top", color=GREY, fontsize=7)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    return figure
