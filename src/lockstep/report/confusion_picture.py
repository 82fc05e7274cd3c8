"""Draws a confusion matrix; task/evaluation.py computes it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lockstep.report.figure_style import FAINT, GREY, INK, TITLE_INCHES, new_figure


def draw_confusion(counts: np.ndarray, title: str) -> Figure:
    """How often each label (rows) got each prediction (columns). Only mistakes are coloured.

    Args:
        counts: int (label, prediction).
        title: one or two lines, such as the run and the step.
    """
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    figure = new_figure(6.4, 6.4 + TITLE_INCHES, title)
    axes = figure.add_axes((0.09, 0.09, 0.88, 0.81))
    darkest = 1.4 * max(1, mistakes.max())  # no cell gets so dark: it would hide its number
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
    classes = range(len(counts))
    axes.set_xticks(classes, [str(index) for index in classes])
    axes.set_yticks(classes, [str(index) for index in classes])
    axes.set_xticks(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    return figure
