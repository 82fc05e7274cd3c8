import numpy as np
import pytest

from lockstep.config import DataConfig
from lockstep.data import describe_data, image_samples, load_image_set
from lockstep.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("endless", "returns an IterableDataset, which cannot be read by number"),
        ("in_another_order", r"class 1 is 'g' in train and 'b' in test; give both the same list"),
        ("one_name", r"returns classes = 'rgb', and not a list of names"),
        ("far_apart", r"train\[2\] label = 2000: would make 2001 classes of 12 images; number them"),
        (
            "noisy",
            r"'resident': would keep one version of own_images train\[0\], .* use --data.storage streamed",
        ),
    ],
)
def test_a_wrong_function_is_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        load_image_set(DataConfig(name=f"own_images:{name}"))
    assert "\n" not in str(refusal.value)


def test_images_that_change_at_each_read_are_streamed_as_the_same_data_each_time():
    config = DataConfig(name="own_images:noisy", storage="streamed")
    digests = []
    for _ in range(2):
        images = load_image_set(config)
        train, test = (image_samples(config, 0, images, which) for which in ("train", "test"))
        digests.append(describe_data("own", train, test))
        np.random.rand()
    assert digests[0] == digests[1]
    assert train.difference(12) == ""


@pytest.mark.parametrize("storage", ["resident", "streamed"])
def test_an_image_that_cannot_be_read_is_named_with_the_traceback(storage):
    with pytest.raises(ConfigError) as refusal:
        load_image_set(DataConfig(name="own_images:failing", storage=storage))
    first, *lines = str(refusal.value).splitlines()
    assert first.startswith("own_images train[7] cannot be read (own_images.py line ")
    assert first.endswith(": ValueError: no picture 7)")
    assert lines[-1] == "ValueError: no picture 7"
    assert "lockstep/data" not in "".join(lines)
