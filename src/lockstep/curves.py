"""Pictures of a run's records: loss, wrong answers and learning rate as lines, for one run or for several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lockstep.figures import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    TITLE_INCHES,
    new_figure,
    shortened,
)
from lockstep.run_files import Record

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
MAX_POINTS = 200
"""Of a line: more records than these are drawn as means of neighbours, with a band from lowest to highest."""
FEW_POINTS = 30
"""Up to so many, each is marked: one record alone makes no line."""


def draw_curves(records: list[Record], resumes: list[int], title: str) -> Figure:
    """Loss, error and learning rate over steps; a thin line stands where the run was resumed."""
    figure, (loss, error, rate) = _panels(3, title)
    for prefix, name, colour in (("", "training", BLUE), ("test_", "test", ORANGE)):
        _curve(loss, *_series(records, "step", f"{prefix}loss"), colour, name)
        _curve(error, *_series(records, "step", f"{prefix}accuracy", _percent_wrong), colour, name)
    groups = sorted({key for record in records for key in record if key.startswith("lr/")})
    for index, group in enumerate(groups):
        _curve(
            rate, *_series(records, "step", group), COLOURS[index % len(COLOURS)], group.removeprefix("lr/")
        )
    _fit_y(loss, "loss")
    _fit_y(error, "wrong answers (%)")
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    _fit_x(rate, "optimizer steps", records[-1]["step"])
    for axes in (loss, error, rate):
        for index, step in enumerate(resumes):
            label = "resumed" if index == 0 else None
            axes.axvline(step, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0, label=label)
    loss.legend(frameon=False, loc="upper right")
    if len(groups) > 1:
        rate.legend(frameon=False, loc="upper right")
    return figure


def draw_comparison(runs: dict[str, list[Record]]) -> Figure:
    """Training loss and wrong test answers of runs, name → records, over the samples that each has seen."""
    figure, (loss, error) = _panels(2, f"{len(runs)} runs", below=0.2 * len(runs))
    lines = []
    for index, (name, records) in enumerate(runs.items()):
        colour = COLOURS[index % len(COLOURS)]
        lines.append(_curve(loss, *_series(records, "samples_seen", "loss"), colour, name))
        _curve(error, *_series(records, "samples_seen", "test_accuracy", _percent_wrong), colour, name)
    _fit_y(loss, "training loss")
    _fit_y(error, "wrong test answers (%)")
    _fit_x(error, "training samples seen", max(records[-1]["samples_seen"] for records in runs.values()))
    names = [shortened(name, 100) for name in runs]
    figure.legend(lines, names, loc="lower left", bbox_to_anchor=(0.03, 0), frameon=False, fontsize=8)
    return figure


def thinned(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """At most MAX_POINTS groups of neighbours: mean place, and mean, lowest and highest value of each."""
    num_groups = min(len(values), MAX_POINTS)
    starts = np.arange(num_groups) * len(values) // num_groups
    sizes = np.diff([*starts, len(values)])
    return (
        np.add.reduceat(places, starts) / sizes,
        np.add.reduceat(values, starts) / sizes,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
    )


def _series(
    records: list[Record], x: str, y: str, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of the records that have both."""
    pairs = [(record[x], record[y]) for record in records if y in record]
    places, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return places, change(values) if change else values


def _percent_wrong(accuracy: np.ndarray) -> np.ndarray:
    return 100 * (1 - accuracy)


def _panels(number: int, title: str, below: float = 0) -> tuple[Figure, list[Axes]]:
    """Panels of 2.4 inches one above the other, over one x axis, with so many inches free below it."""
    width, foot, gap = 7.5, 0.55 + below, 0.15
    height = TITLE_INCHES + number * (2.4 + gap) + foot
    figure = new_figure(width, height, title)
    panels: list[Axes] = []
    for index in range(number):
        bottom = foot + (number - 1 - index) * (2.4 + gap)
        place = (0.8 / width, bottom / height, 6.4 / width, 2.4 / height)
        axes = figure.add_axes(place, sharex=panels[0] if panels else None)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=FAINT, linewidth=0.5)
        axes.tick_params(labelsize=9, labelbottom=index == number - 1)
        panels.append(axes)
    return figure, panels


def _curve(axes: Axes, places: np.ndarray, values: np.ndarray, colour: str, label: str) -> Line2D:
    """A line through the values, thinned."""
    if len(values) > MAX_POINTS:
        places, values, low, high = thinned(places, values)
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    marker = "o" if len(values) <= FEW_POINTS else ""
    (line,) = axes.plot(places, values, color=colour, linewidth=1.3, marker=marker, markersize=3, label=label)
    return line


def _fit_x(axes: Axes, name: str, last: int) -> None:
    axes.set_xlim(0, last * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(name, color=INK)


def _fit_y(axes: Axes, name: str) -> None:
    """A logarithmic axis where the lines span more than a factor of 4, so that late progress shows too.

    A value of 0 then leaves the picture at its lower edge.
    """
    axes.set_ylabel(name, color=INK)
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    positive = values[values > 0]
    if len(positive) == 0 or positive.max() < 4 * positive.min():
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(positive.min() / 1.3, positive.max() * 1.3)
    is_wide = positive.max() > 1000 * positive.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
