"""The figures of the HTML pages: lines of records, and a confusion matrix.

A figure is plain data and layout as plotly.js takes them, by the names of https://plotly.com/javascript/reference.
Plotly's Python objects for them check each value, but take a quarter of a second to import and to fill.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from lockstep.report.figures.confusion_figure import MAX_NUMBERED
from lockstep.report.figures.figure_style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, shortened
from lockstep.report.html.html_page import GREY
from lockstep.report.numbers import is_fraction_correct
from lockstep.runs import Record

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
RATE_COLOURS = (PURPLE, SKY)
KINDS = (
    ("training", "", BLUE),
    ("test", "test_", ORANGE),
    ("validation", "validation_", GREEN),
    ("moving average, test", "ema_test_", RED),
    ("moving average, validation", "ema_validation_", RED),
)
"""What a value is of, how its name in a record begins, and its colour."""
PANEL_PIXELS = 260

MAX_NAME = 30
"""Characters of a name in the legend: more do not fit beside the buttons on a phone."""

ORANGES = (
    *("rgb(255,245,235)", "rgb(254,230,206)", "rgb(253,208,162)", "rgb(253,174,107)", "rgb(253,141,60)"),
    *("rgb(241,105,19)", "rgb(217,72,1)", "rgb(166,54,3)", "rgb(127,39,4)"),
)
"""From few to many: ColorBrewer's Oranges, which plotly.js does not know by name."""


def curves(records: Sequence[Record], resumes: Sequence[int], headline: str) -> dict[str, Any]:
    """Loss, headline value and learning rates over steps, and a line at each resume."""
    panels = []
    for value in dict.fromkeys(["loss", headline]):
        lines = [_line(records, "step", prefix + value, name, colour) for name, prefix, colour in KINDS]
        panels.append((_y_axis(value, value, lines), lines))
    rates = sorted({key for record in records for key in record if key.startswith("lr/")})
    lines = [_line(records, "step", key, key, colour) for key, colour in zip(rates, cycle(RATE_COLOURS))]
    panels.append(({"title": {"text": "learning rate"}}, lines))
    figure = _panels(panels, "optimizer steps")
    dashes = {"type": "line", "line": {"color": GREY, "width": 1, "dash": "dash"}}
    figure["layout"]["shapes"] = [
        {**dashes, "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1} for step in resumes
    ]
    return figure


def comparison(runs: Mapping[str, Sequence[Record]], headline: str) -> dict[str, Any]:
    """Training loss and headline test value of runs over the training samples seen.

    Of a run with a validation set, whose test set is scored once, the value on the validation set.
    """
    losses, scores, splits = [], [], set()
    for (name, records), colour in zip(runs.items(), cycle(COLOURS)):
        has_validation = any(f"validation_{headline}" in record for record in records)
        split = "validation" if has_validation else "test"
        splits.add(split)
        losses.append(_line(records, "samples_seen", "loss", name, colour))
        scores.append(_line(records, "samples_seen", f"{split}_{headline}", name, colour))
    panels = [
        (_y_axis("training loss", "loss", losses), losses),
        (_y_axis(f"{' or '.join(sorted(splits))} {headline}", headline, scores), scores),
    ]
    return _panels(panels, "training samples seen")


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """How often each label (rows) got each prediction (columns). Only mistakes are coloured."""
    names = [html.escape(shortened(name, 24)) for name in classes]
    is_right = np.eye(len(counts), dtype=bool)
    # Solid cells, on which plotly chooses the ink: in the dark it would take transparent ones for white.
    pale = {"colorscale": [[0, "#d8d8d8"], [1, "#d8d8d8"]], "showscale": False}
    places = np.linspace(0, 1, len(ORANGES)).tolist()
    oranges = {"colorscale": list(zip(places, ORANGES, strict=True))}
    axis = {"type": "category", "tickson": "boundaries", "zeroline": False}
    cells = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "hovertemplate": "label %{y}, prediction %{x}: %{z:,}<extra></extra>",
        "hoverongaps": False,
        "zmin": 0,
        "colorbar": {"outlinewidth": 0},
        **({"texttemplate": "%{z:,}"} if len(names) <= MAX_NUMBERED else {}),
    }
    size = min(900, max(360, 40 * len(names) + 120))
    return {
        "data": [
            {**cells, **pale, "z": np.ma.masked_where(~is_right, counts).tolist()},
            {**cells, **oranges, "z": np.ma.masked_where(is_right | (counts == 0), counts).tolist()},
        ],
        "layout": {
            "width": size,
            "height": size,
            "xaxis": {**axis, "title": {"text": "prediction"}},
            "yaxis": {**axis, "title": {"text": "label"}, "autorange": "reversed"},
        },
    }


def _panels(panels: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]], x_title: str) -> dict[str, Any]:
    """Panels below each other, of a y axis and lines each, with one x axis. A name is in the legend once."""
    ids = ["y", *(f"y{row}" for row in range(2, len(panels) + 1))]
    layout: dict[str, Any] = {
        "grid": {"rows": len(panels), "columns": 1, "subplots": [[f"x{y}"] for y in ids], "ygap": 0.17},
        "xaxis": {"title": {"text": x_title}, "anchor": ids[-1]},
        "height": PANEL_PIXELS * len(panels),
        # The buttons have a column of their own: above the panels they would cover a legend of several lines.
        "modebar": {"orientation": "v"},
        "margin": {"r": 40, "t": 30},
        "hovermode": "x unified",
    }
    data: list[dict[str, Any]] = []
    for y, (axis, lines) in zip(ids, panels, strict=True):
        layout[y.replace("y", "yaxis")] = axis
        for line in lines:
            if line["x"]:
                is_named = any(line["legendgroup"] == other["legendgroup"] for other in data)
                data.append({**line, "yaxis": y, "showlegend": not is_named})
    return {"data": data, "layout": layout}


def _y_axis(title: str, value: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Logarithmic if the values span more than a factor of 4, so that late progress is visible."""
    numbers = [number for line in lines for number in line["y"]]
    is_log = bool(numbers) and min(numbers) > 0 and max(numbers) > 4 * min(numbers)
    return {
        "title": {"text": html.escape(title)},
        **({"type": "log"} if is_log else {}),
        **({"tickformat": ".4~%"} if is_fraction_correct(value) else {}),
    }


def _line(records: Sequence[Record], x_key: str, y_key: str, name: str, colour: str) -> dict[str, Any]:
    """A line through the records that have both keys."""
    points = [(record[x_key], record[y_key]) for record in records if record.get(y_key) is not None]
    return {
        "type": "scatter",
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "name": html.escape(shortened(name, MAX_NAME)),
        "legendgroup": name,
        "mode": "lines+markers" if len(points) <= 50 else "lines",
        "line": {"color": colour},
    }
