import shutil

import pytest

from image_folders import colour_folder
from lockstep.config import DataConfig
from lockstep.data import load_image_set
from lockstep.errors import ConfigError


def folder_config(root, **changes):
    return DataConfig(name="folder", root=str(root), **{"image_size": 16, **changes})


def test_files_are_those_of_torchvision_in_its_order_without_hidden_ones(tmp_path):
    from torchvision.datasets import ImageFolder

    root = colour_folder(tmp_path / "data", 12, 6)
    red, apart = root / "train" / "red", tmp_path / "elsewhere"
    (red / "more").mkdir()
    shutil.copytree(red.parent / "blue", red / "more" / "Ünder")
    shutil.copytree(red.parent / "blue", apart)
    (red / "linked").symlink_to(apart)
    (red.parent / "pink").symlink_to(red)  # twice the same, but not endless
    (red / "Thumbs.db").write_bytes(b"")
    images = load_image_set(folder_config(root)).images["train"]
    expected = ImageFolder(str(root / "train")).samples
    assert list(zip(images.source.paths, images.source.dataset.labels, strict=True)) == expected
    (red / ".ipynb_checkpoints").mkdir()
    shutil.copy(red / "002.jpg", red / ".ipynb_checkpoints" / "002-checkpoint.jpg")
    for name in ("._002.jpg", ".DS_Store"):
        (red / name).write_bytes(b"\0\5\x16\7")
    assert load_image_set(folder_config(root)).images["train"].source.paths == images.source.paths


@pytest.mark.timeout(30)
def test_links_to_the_folder_of_all_classes_are_refused_before_they_are_walked(tmp_path):
    root = colour_folder(tmp_path, 6, 3)
    for name in ("one", "two"):  # a walk of 2**40 folders
        (root / "train" / "red" / name).symlink_to("..")
    with pytest.raises(ConfigError, match=r"train/red/(one|two).*: leads back to a folder above it.*remove"):
        load_image_set(folder_config(root))
