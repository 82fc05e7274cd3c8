"""Curves of any run, short, long, resumed or perfect."""

import numpy as np
import pytest

from lockstep.report.figures.curves import COLOURS, MAX_POINTS, draw_comparison, draw_curves, thinned
from run_folders import make_record


def axes(records, resumes=()):
    figure = draw_curves(records, list(resumes), "", "accuracy")
    figure.canvas.draw()
    return figure.axes


def test_curves_of_any_run_are_drawn():
    loss, error, _ = axes([make_record(step) for step in range(1, 9)], [2, 4])
    assert loss.get_yscale() == "log"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "resumed"]
    assert error.get_yscale() == "linear"  # it stays at 50 %
    _, error, _ = axes([{**make_record(1), "accuracy": 0.5}, {**make_record(2), "accuracy": 1.0}])
    assert error.get_ylim()[0] == 0
    perfect = {"step": 5, "samples_seen": 320, "test_loss": 0.0, "test_accuracy": 1.0}
    for records in ([make_record(1)], [perfect]):
        axes(records)
    groups = [{**make_record(1), "lr/cnn": 0.1, "lr/gru": 0.2}]
    assert [text.get_text() for text in axes(groups)[2].get_legend().get_texts()] == ["cnn", "gru", "model"]


def test_a_headline_has_a_panel_of_its_own_name():
    records = [{**make_record(step), "f1": 0.5, "test_f1": 0.5} for step in (1, 2)]
    names = [panel.get_ylabel() for panel in draw_curves(records, [], "", "f1").axes]
    assert names == ["loss", "f1", "learning rate"]
    assert [panel.get_ylabel() for panel in draw_curves(records, [], "", "loss").axes] == [
        "loss",
        "learning rate",
    ]


def test_a_long_run_has_a_band_around_its_means():
    loss, *_ = axes([make_record(step) for step in range(1, 2 * MAX_POINTS)])
    assert len(loss.lines[0].get_xdata()) == MAX_POINTS
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == ["training", "lowest to highest"]


def test_a_long_run_is_thinned_to_means_and_extremes():
    steps = np.arange(100_007.0)
    values = np.random.default_rng(0).random(len(steps))
    x, mean, low, high = thinned(steps, values)
    assert len(x) == MAX_POINTS
    assert mean.mean() == pytest.approx(values.mean(), rel=1e-4)
    assert (low.min(), high.max()) == (values.min(), values.max())
    assert (np.diff(x) > 0).all()
    assert ((low < mean) & (mean < high)).all()


def test_runs_that_share_a_colour_differ_in_style():
    runs = {f"run {number}": [make_record(1, 0.5), make_record(2)] for number in range(len(COLOURS) + 1)}
    figure = draw_comparison(runs | {"$x$": [make_record(1)]}, "accuracy")
    figure.canvas.draw()
    lines = figure.axes[0].lines
    assert lines[0].get_color() == lines[len(COLOURS)].get_color()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(runs) + 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*runs, "$x$"]
