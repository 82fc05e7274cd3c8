"""The picture of a confusion matrix shows its counts."""

import numpy as np
import pytest

from lockstep.report.confusion_picture import draw_confusion


@pytest.mark.parametrize("counts", [np.diag([5, 1200]), np.array([[5, 2], [0, 1200]]), np.zeros((2, 2), int)])
def test_every_count_above_zero_is_written(counts):
    figure = draw_confusion(counts, ["cat", "dog"], "run\nafter step 7")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction", "label")
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {
        (prediction, label): f"{counts[label, prediction]:,}" for label, prediction in np.argwhere(counts > 0)
    }
