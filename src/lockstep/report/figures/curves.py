"""Draws the records of one run or of several: lines of loss, wrong answers and learning rate."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lockstep.report.figures.figure_style import (
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
from lockstep.report.numbers import is_fraction_correct
from lockstep.runs import Record

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
STYLES = ("-", "--", ":")
"""The seventh run gets the first colour again, in another style."""

RATE_COLOURS = (GREEN, PURPLE, SKY, RED)
MAX_POINTS = 100
"""Of one line: more records than this are drawn as means of neighbours."""

FEW_POINTS = 12
"""Up to this many points, each gets a marker: a single record makes no visible line."""

TICK_STEPS = (1, 2, 2.5, 5, 10)


def draw_curves(records: list[Record], resumes: list[int], title: str, headline: str) -> Figure:
    """Loss, headline value and learning rate over steps, with a thin vertical line for each resume."""
    shown = dict.fromkeys(["loss", headline])
    figure, panels = _panels(len(shown) + 1, title, top_inches=TITLE_INCHES + 0.15, bottom_inches=0.55)
    loss, rate = panels[0], panels[-1]
    for axes, value in zip(panels, shown, strict=False):
        scored = [("test_", "test", ORANGE), ("validation_", "validation", GREEN)]
        scored += [(f"ema_{prefix}", f"{name}, average", PURPLE) for prefix, name, _ in scored]
        for prefix, name, colour in (("", "training", BLUE), *scored):
            if not prefix or any(f"{prefix}{value}" in record for record in records):
                _curve(axes, *_series(records, "step", f"{prefix}{value}", _change(value)), colour, name)
        _band(axes, *_series(records, "step", value, _change(value)), BLUE)
        _fit_y(axes, _axis_name(value))
    groups = sorted({key for record in records for key in record if key.startswith("lr/")})
    for group, colour in zip(groups, cycle(RATE_COLOURS)):  # zip ends with the groups
        _curve(rate, *_series(records, "step", group), colour, group.removeprefix("lr/"))
    if len(groups) > 1:
        rate.legend(frameon=False)
    _linear_y(rate, "learning rate")
    _fit_x(rate, "optimizer steps", records[-1]["step"])
    for axes in panels:
        for index, step in enumerate(resumes):
            label = "resumed" if index == 0 else None
            axes.axvline(step, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0, label=label)
    loss.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1.01, 0.97), fontsize=9)
    return figure


def draw_comparison(runs: dict[str, list[Record]], headline: str) -> Figure:
    """Training loss and headline test value of runs, name → records, over the training samples seen.

    Of a run with a validation set, whose test set is scored once, the value on the validation set.
    """
    figure, (loss, test) = _panels(2, "", top_inches=0.2, bottom_inches=0.75 + 0.17 * len(runs))
    lines, splits = [], set()
    for (name, records), (style, colour) in zip(runs.items(), cycle(product(STYLES, COLOURS))):
        lines.append(_curve(loss, *_series(records, "samples_seen", "loss"), colour, name, style))
        has_validation = any(f"validation_{headline}" in record for record in records)
        split = "validation" if has_validation else "test"
        splits.add(split)
        scores = _series(records, "samples_seen", f"{split}_{headline}", _change(headline))
        _curve(test, *scores, colour, name, style)
    _fit_y(loss, "training loss")
    _fit_y(test, _axis_name(headline, f"{' or '.join(sorted(splits))} "))
    _fit_x(test, "training samples seen", max(records[-1]["samples_seen"] for records in runs.values()))
    names = [shortened(name, 80) for name in runs]
    legend = figure.legend(
        lines, names, loc="lower left", bbox_to_anchor=(0.09, 0.01), frameon=False, fontsize=8
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a run may be named '$x$'
    return figure


def thinned(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """At most MAX_POINTS groups of neighbours: mean x, and mean, lowest and highest value of each."""
    if len(values) <= MAX_POINTS:
        return x, values, values, values
    starts = np.arange(MAX_POINTS) * len(values) // MAX_POINTS
    sizes = np.diff([*starts, len(values)])
    return (
        np.add.reduceat(x, starts) / sizes,
        np.add.reduceat(values, starts) / sizes,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
    )


def _series(
    records: list[Record], x_key: str, y_key: str, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two keys of the records that have both, as float64 (records,) each."""
    pairs = [(record[x_key], record[y_key]) for record in records if record.get(y_key) is not None]
    x, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return x, change(values) if change else values


def _percent_wrong(accuracy: np.ndarray) -> np.ndarray:
    return 100 * (1 - accuracy)


def _change(value: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """An accuracy is drawn as the percentage of wrong answers, in which late progress can be seen."""
    return _percent_wrong if is_fraction_correct(value) else None


def _axis_name(value: str, prefix: str = "") -> str:
    return f"wrong {prefix}answers (%)" if is_fraction_correct(value) else f"{prefix}{value}"


def _panels(number: int, title: str, *, top_inches: float, bottom_inches: float) -> tuple[Figure, list[Axes]]:
    """Panels above each other with a common x axis, and free space above and below them."""
    width, height, gap = 7.5, 2.4, 0.15
    total = top_inches + number * height + (number - 1) * gap + bottom_inches
    figure = new_figure(width, total, title)
    panels: list[Axes] = []
    for index in reversed(range(number)):
        bottom = bottom_inches + index * (height + gap)
        rectangle = (0.85 / width, bottom / total, 6.4 / width, height / total)  # left, bottom, width, height
        axes = figure.add_axes(rectangle, sharex=panels[0] if panels else None)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=FAINT, linewidth=0.5)
        axes.tick_params(labelsize=9, labelbottom=index == 0)
        panels.append(axes)
    return figure, panels


def _curve(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, label: str, style: str = "-"
) -> Line2D:
    """A line through the thinned values; drawn above the axes, on which a value of 0 lies."""
    marker = "o" if len(values) <= FEW_POINTS else ""
    mean_x, mean, _, _ = thinned(x, values)
    (line,) = axes.plot(
        mean_x,
        mean,
        style,
        color=colour,
        linewidth=1.3,
        marker=marker,
        markersize=3,
        label=label,
        clip_on=False,
        zorder=3,
    )
    return line


def _band(axes: Axes, x: np.ndarray, values: np.ndarray, colour: str) -> None:
    """Fills the range of the values behind each thinned point."""
    if len(values) > MAX_POINTS:
        mean_x, _, low, high = thinned(x, values)
        axes.fill_between(mean_x, low, high, color=colour, alpha=0.2, linewidth=0, label="lowest to highest")


def _linear_y(axes: Axes, name: str) -> None:
    """A linear axis that begins at 0."""
    axes.set_ylabel(name, color=INK)
    axes.yaxis.set_label_coords(-0.1, 0.5)  # so that the names of all panels align
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _fit_x(axes: Axes, name: str, last: int) -> None:
    axes.set_xlabel(name, color=INK)
    axes.set_xlim(0, last * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _fit_y(axes: Axes, name: str) -> None:
    """A logarithmic axis if the values span more than a factor of 4, so that late progress is visible.

    If a value is 0, the axis is linear from the smallest of the other values down to 0.
    """
    _linear_y(axes, name)
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    if (values < 0).any():  # such as a log-likelihood
        axes.set_ylim(values.min() - 0.05 * np.ptp(values), values.max() + 0.05 * np.ptp(values))
        return
    positive = values[values > 0]
    if len(positive) == 0:
        axes.set_ylim(0, 1)
        return
    if positive.max() < 4 * positive.min():
        return
    least, most = positive.min(), positive.max()
    decades = 10.0 ** np.arange(np.floor(np.log10(least)), np.ceil(np.log10(most)) + 1)
    ticks = np.outer(decades, [1] if most > 1000 * least else [1, 2, 5]).ravel()
    if len(positive) < len(values):
        axes.set_yscale("symlog", linthresh=least, linscale=0.3)
        axes.set_ylim(0, most * 1.3)
        ticks = np.array([0, *ticks[ticks >= least]])
    else:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.3, most * 1.3)
    axes.yaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # set_yscale replaced it
