"""Contact sheets of any number of images of any size."""

import numpy as np
import pytest

from lockstep.report.contact_sheet import MIN_WIDTH, TITLE_HEIGHT, draw_contact_sheet

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
