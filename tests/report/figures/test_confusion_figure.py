"""The picture of a confusion matrix shows its counts."""

import numpy as np
import pytest

from lockstep.report.figures.confusion_figure import MAX_NUMBERED, draw_confusion


@pytest.mark.parametrize("counts", [np.diag([5, 1200]), np.array([[5, 2], [0, 1200]]), np.zeros((2, 2), int)])
def test_every_count_above_zero_is_written(counts):
    figure = draw_confusion(counts, ["cat", "dog"], "run\nafter step 7")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction", "label")
    names = ["cat", "dog"]
    assert [text.get_text() for text in axes.get_yticklabels()] == names
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {
        (prediction, label): f"{counts[label, prediction]:,}" for label, prediction in np.argwhere(counts > 0)
    }


def test_many_classes_have_neither_names_nor_numbers():
    counts = np.ones((MAX_NUMBERED + 1, MAX_NUMBERED + 1), int)
    (axes,) = draw_confusion(counts, [f"class {index}" for index in range(len(counts))], "").axes
    assert len(axes.texts) == 0
    assert not any(text.get_text().startswith("class") for text in axes.get_yticklabels())


@pytest.mark.parametrize("names", [["cat", "dog"], ["yellow-billed", "great spotted woodpecker"]])
def test_everything_written_is_within_the_picture(names):
    figure = draw_confusion(np.diag([5, 1200]), names, "run\nafter step 7")
    figure.canvas.draw()
    (axes,) = figure.axes
    box = axes.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.width
    assert axes.get_window_extent().width > figure.bbox.width / 2
