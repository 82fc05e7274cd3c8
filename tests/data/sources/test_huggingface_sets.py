import pytest

from image_folders import colour_images
from lockstep.config import DataConfig
from lockstep.data import load_image_set
from lockstep.errors import ConfigError


def renamed(test, datasets):
    return test.rename_column("kind", "sort")


def reordered(test, datasets):
    return test.cast_column("kind", datasets.ClassLabel(names=["red", "green", "blue"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"has the columns picture, sort in test, and not kind; rename them"),
        (reordered, r"class 0 is 'blue' in train and 'red' in test; give both the same list"),
    ],
)
def test_a_test_set_that_is_not_like_the_training_set_is_refused(tmp_path, change, message):
    datasets = pytest.importorskip("datasets")
    kinds = datasets.ClassLabel(names=["blue", "green", "red"])
    features = datasets.Features({"picture": datasets.Image(), "kind": kinds})
    rows = {"picture": colour_images(3), "kind": [0, 1, 2]}
    train = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=train, test=change(train, datasets)).save_to_disk(tmp_path / "set")
    with pytest.raises(ConfigError, match=message):
        load_image_set(DataConfig(name=f"huggingface:{tmp_path}/set", image_size=16))


def test_a_name_without_a_path_is_not_the_current_folder():
    pytest.importorskip("datasets")
    with pytest.raises(ConfigError, match="names no file; write 'huggingface:PATH'"):
        load_image_set(DataConfig(name="huggingface:"))
