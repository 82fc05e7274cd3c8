"""The figures of the HTML report: lines of records, and a confusion matrix."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

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
MAX_NUMBERED = 25
"""With more classes than this, cells are too small for numbers."""


def curves(records: Sequence[Record], resumes: Sequence[int], headline: str) -> go.Figure:
    """Loss, headline value and learning rates over steps, and a line at each resume."""
    values = list(dict.fromkeys(["loss", headline]))
    figure = _panels([*values, "learning rate"])
    for row, value in enumerate(values, 1):
        for name, prefix, colour in KINDS:
            _line(figure, row, records, "step", prefix + value, name, colour, is_first=row == 1)
        _fit_y(figure, row)
        if is_fraction_correct(value):
            figure.update_yaxes(tickformat=".4~%", row=row, col=1)
    rates = sorted({key for record in records for key in record if key.startswith("lr/")})
    for key, colour in zip(rates, cycle(RATE_COLOURS)):
        _line(figure, len(values) + 1, records, "step", key, key, colour, is_first=True)
    for step in resumes:
        figure.add_vline(step, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(title_text="optimizer steps", row=len(values) + 1, col=1)
    return figure


def comparison(runs: Mapping[str, Sequence[Record]], headline: str) -> go.Figure:
    """Training loss and headline test value of runs over the training samples seen.

    Of a run with a validation set, whose test set is scored once, the value on the validation set.
    """
    keys = {
        name: f"validation_{headline}"
        if any(f"validation_{headline}" in record for record in records)
        else f"test_{headline}"
        for name, records in runs.items()
    }
    splits = sorted({key.partition("_")[0] for key in keys.values()})
    figure = _panels(["training loss", f"{' or '.join(splits)} {headline}"])
    for (name, records), colour in zip(runs.items(), cycle(COLOURS)):
        for row, key in enumerate(("loss", keys[name]), 1):
            _line(figure, row, records, "samples_seen", key, name, colour, is_first=row == 1)
    for row in (1, 2):
        _fit_y(figure, row)
    if is_fraction_correct(headline):
        figure.update_yaxes(tickformat=".4~%", row=2, col=1)
    figure.update_xaxes(title_text="training samples seen", row=2, col=1)
    return figure


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> go.Figure:
    """How often each label (rows) got each prediction (columns). Only mistakes are coloured."""
    names = [html.escape(shortened(name, 24)) for name in classes]
    is_diagonal = np.eye(len(counts), dtype=bool)
    size = min(900, max(360, 40 * len(names) + 120))
    common = {
        "x": names,
        "y": names,
        "text": counts,
        "texttemplate": "%{text:,}" if len(names) <= MAX_NUMBERED else None,
        "hovertemplate": "label %{y}, prediction %{x}: %{text:,}<extra></extra>",
    }
    mistakes = np.where(~is_diagonal & (counts > 0), counts, np.nan)
    # Solid cells, on which plotly chooses the ink: in the dark it would take transparent ones for white.
    pale = {"colorscale": ["#d8d8d8"] * 2, "showscale": False}
    right = go.Heatmap(z=np.where(is_diagonal, 0, np.nan), **pale, **common)
    wrong = go.Heatmap(z=mistakes, zmin=0, colorscale="Oranges", **common)
    figure = go.Figure([right, wrong])
    figure.update_layout(width=size, height=size)
    figure.update_xaxes(title_text="prediction", type="category")
    figure.update_yaxes(title_text="label", type="category", autorange="reversed")
    return figure


def _panels(titles: Sequence[str]) -> go.Figure:
    figure = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, title in enumerate(titles, 1):
        figure.update_yaxes(title_text=html.escape(title), row=row, col=1)
    figure.update_layout(height=PANEL_PIXELS * len(titles), hovermode="x unified")
    return figure


def _fit_y(figure: go.Figure, row: int) -> None:
    """A logarithmic axis if the values span more than a factor of 4, so that late progress is visible."""
    values = [value for line in figure.select_traces(row=row, col=1) for value in line.y]
    if values and min(values) > 0 and max(values) > 4 * min(values):
        figure.update_yaxes(type="log", row=row, col=1)


def _line(
    figure: go.Figure,
    row: int,
    records: Sequence[Record],
    x_key: str,
    y_key: str,
    name: str,
    colour: str,
    *,
    is_first: bool,
) -> None:
    """A line through the records that have both keys, if there are any."""
    points = [(record[x_key], record[y_key]) for record in records if record.get(y_key) is not None]
    if not points:
        return
    x, y = zip(*points, strict=True)
    line = go.Scatter(
        x=x,
        y=y,
        name=html.escape(name),
        legendgroup=name,
        showlegend=is_first,
        mode="lines+markers" if len(points) <= 50 else "lines",
        line={"color": colour},
    )
    figure.add_trace(line, row=row, col=1)
