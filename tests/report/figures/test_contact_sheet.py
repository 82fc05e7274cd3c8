"""Contact sheets of any number of images of any size."""

import numpy as np
import pytest

from lockstep.report.figures.contact_sheet import MARGIN, MIN_WIDTH, TITLE_HEIGHT, draw_contact_sheet

RED = (0xD5, 0x5E, 0x00)


def draw(images, labels, predictions):
    sheet = draw_contact_sheet(images, labels, predictions, ["note"] * len(images), "title\nof two lines")
    return np.asarray(sheet)


def test_without_images_the_sheet_is_only_a_title():
    sheet = draw(np.empty((0, 28, 28), np.uint8), [], [])
    assert sheet.shape == (TITLE_HEIGHT, MIN_WIDTH, 3)
    assert (sheet < 255).any()


@pytest.mark.parametrize(("height", "width", "enlarged"), [(28, 28, 4), (32, 16, 3), (150, 200, 1)])
def test_images_of_any_size_keep_their_shape(height, width, enlarged):
    sheet = draw(np.full((1, height, width), 255, np.uint8), ["3"], ["3"])[TITLE_HEIGHT:]
    rows, columns = (sheet[: enlarged * height] == 0).all(axis=2).nonzero()  # the image is black
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (enlarged * height, enlarged * width)


def test_images_fill_a_square():
    assert draw(np.zeros((36, 28, 28), np.uint8), ["0"] * 36, ["0"] * 36).shape == (88 + 6 * 176, 6 * 144, 3)


def test_only_a_wrong_prediction_is_red():
    image = np.zeros((1, 28, 28), np.uint8)
    assert not (draw(image, ["3"], ["3"]) == RED).all(axis=2).any()
    assert (draw(image, ["3"], ["5"]) == RED).all(axis=2).any()


def test_colours_and_photographs_are_drawn_as_they_are():
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    sheet = draw(red, ["rose"], ["rose"])[TITLE_HEIGHT:]
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == (3 * 32) ** 2
    grey = draw(np.full((1, 32, 32, 1), 77, np.uint8), ["rose"], ["rose"])[TITLE_HEIGHT:]
    assert (grey[: 3 * 32] == 77).all(axis=2).sum() == (3 * 32) ** 2


def test_large_images_become_smaller_and_long_names_are_cut():
    one = draw(np.zeros((1, 448, 448, 3), np.uint8), ["0"], ["0"])
    assert (one[TITLE_HEIGHT:] == 0).all(axis=2).sum() == 224**2
    name = "a very long name of a class"
    pair = draw(np.zeros((2, 28, 28), np.uint8), [name, "0"], [name, "0"])[TITLE_HEIGHT + 112 :]
    assert (pair[:, 144:152] == 255).all()  # nothing reaches the next picture


def test_a_long_title_is_not_cut():
    title = "run\nafter step 705: 68 of 10,000 test samples wrong (0.68%); the 25 with the highest loss"
    sheet = np.asarray(draw_contact_sheet(np.zeros((1, 28, 28), np.uint8), ["1"], ["7"], [""], title))
    assert (sheet[:TITLE_HEIGHT] < 255).any()
    assert (sheet[:TITLE_HEIGHT, -MARGIN // 2 :] == 255).all()
