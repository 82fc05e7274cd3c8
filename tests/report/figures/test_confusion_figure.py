"""The picture of a confusion matrix shows its counts."""

import numpy as np
import pytest

from lockstep.report.figures.confusion_figure import MARGIN, MAX_NUMBERED, PALE, draw_confusion

WHITE, FAINT = (255, 255, 255), (0xDD, 0xDD, 0xDD)


def cells(counts, classes=None):
    """The pixels of each cell without its frame: [label][prediction], uint8 (height, width, 3)."""
    classes = classes or [f"class {index}" for index in range(len(counts))]
    pixels = np.asarray(draw_confusion(counts, classes, "run\nafter step 7"))
    is_line = (pixels == FAINT).all(axis=2)
    (rows,), (columns,) = ((is_line.sum(axis=axis) > 400).nonzero() for axis in (1, 0))
    matrix = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = len(matrix) // len(counts)
    return [
        [matrix[y : y + side, x : x + side][2:-2, 2:-2] for x in range(0, side * len(counts), side)]
        for y in range(0, side * len(counts), side)
    ]


@pytest.mark.parametrize("counts", [np.diag([5, 1200]), np.array([[5, 2], [0, 1200]]), np.zeros((2, 2), int)])
def test_every_count_above_zero_is_written_in_its_colour(counts):
    drawn = cells(counts, ["cat", "dog"])
    for (label, prediction), count in np.ndenumerate(counts):
        cell = drawn[label][prediction]
        colour = tuple(cell[0, 0])
        assert (cell != cell[0, 0]).any() == (count > 0)  # a number
        assert (colour == PALE) == (label == prediction)
        assert (colour == WHITE) == (label != prediction and count == 0)


def test_more_mistakes_are_darker():
    drawn = cells(np.array([[9, 1, 2], [0, 9, 4], [0, 0, 9]]))
    one, two, four = (drawn[row][column][0, 0].astype(int).sum() for row, column in ((0, 1), (0, 2), (1, 2)))
    assert one > two > four


def test_many_classes_have_no_numbers():
    drawn = cells(np.ones((MAX_NUMBERED + 1, MAX_NUMBERED + 1), int))
    assert all((cell == cell[0, 0]).all() for row in drawn for cell in row)


def test_one_mistake_among_more_classes_than_pixels_is_visible():
    counts = np.diag(np.full(2000, 5))
    counts[100, 1900] = 1
    pixels = np.asarray(draw_confusion(counts, ["name"] * 2000, ""), dtype=int)
    assert (pixels[..., 0] > pixels[..., 2] + 20).any()  # orange


@pytest.mark.parametrize("name", ["3", "great spotted woodpecker"])
def test_everything_written_is_within_the_picture(name):
    title = f"run\n{'a title of many words ' * 6}"
    pixels = np.asarray(draw_confusion(np.eye(3, dtype=int), [name] * 3, title))
    margin = MARGIN - 4  # below the letters of 'prediction'
    for edge in (pixels[:, :margin], pixels[-margin:], pixels[:, -margin:]):
        assert (edge == 255).all()
