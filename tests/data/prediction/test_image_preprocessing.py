"""From any image to the input of a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lockstep.data import DIGIT_FACTS, ImageFacts, ImagePreprocessing, UnreadableImage, normalised
from lockstep.errors import ConfigError
from photographs import photograph

COLOURS = ImageFacts(
    classes=("a", "b"), channels=3, size=8, mean=(0.5,) * 3, std=(0.25,) * 3, bright_borders=0.4
)


def test_an_image_of_the_training_size_stays_as_it_is_and_is_normalised_like_the_test_set():
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[8:20, 8:20] = 200
    preprocess = ImagePreprocessing(facts=DIGIT_FACTS)
    pixels, changes = preprocess.pixels("it", digit)
    assert (pixels[0].numpy() == digit).all()
    assert changes == []
    for kind in (digit, Image.fromarray(digit), torch.from_numpy(digit)):
        assert torch.equal(preprocess(kind), normalised(torch.from_numpy(digit)[None])[0])


def test_ink_on_paper_is_inverted_where_the_training_images_have_dark_borders():
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[8:20, 12:16] = 255
    photo = photograph(digit)
    pixels, changes = ImagePreprocessing(facts=DIGIT_FACTS).pixels("it", photo)
    assert changes == ["resized", "inverted"]
    assert pixels.shape == (1, 28, 28)
    assert pixels[0, 14, 14] > 180
    assert pixels[0, 0, 0] < 60
    kept, changes = ImagePreprocessing(facts=DIGIT_FACTS, invert="no").pixels("it", photo)
    assert torch.equal(kept, 255 - pixels)
    assert changes == ["resized"]
    for share in (0.4, None):  # some training images have bright borders; or nobody knows
        facts = replace(DIGIT_FACTS, bright_borders=share)
        assert ImagePreprocessing(facts=facts).pixels("it", photo)[1] == ["resized"]
        assert ImagePreprocessing(facts=facts, invert="yes").pixels("it", photo)[1] == ["resized", "inverted"]


@pytest.mark.parametrize("size", [(1, 1), (300, 20), (9, 8), (3, 400)])
def test_an_image_of_any_size_becomes_a_square(size):
    pixels, changes = ImagePreprocessing(facts=COLOURS).pixels("it", Image.new("RGB", size, "white"))
    assert pixels.shape == (3, 8, 8)
    assert changes == ["resized" if size == (1, 1) else "cropped"]


def test_grey_and_colours_become_each_other():
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert torch.equal(
        *(ImagePreprocessing(facts=COLOURS).pixels("it", each)[0] for each in (grey, grey.convert("RGB")))
    )
    red = Image.new("RGBA", (28, 28), "red")
    pixels, _ = ImagePreprocessing(facts=DIGIT_FACTS).pixels("it", red)
    assert pixels.unique().tolist() == [76]  # 0.299 of 255, as PIL defines it
    with pytest.raises(ConfigError, match="it = '5 channels': but the training images have 1"):
        ImagePreprocessing(facts=DIGIT_FACTS).pixels("it", torch.zeros(5, 9, 9, dtype=torch.uint8))


def test_a_file_that_is_no_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="cannot identify image file"):
        ImagePreprocessing(facts=DIGIT_FACTS)(path)
