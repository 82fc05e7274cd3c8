"""The table of data sets, on small files that the tests make in torchvision's layout."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from image_files import put, small_files
from lockstep.config import DataConfig
from lockstep.data import DATA_SOURCES, load_dataset, missing_files
from lockstep.errors import ConfigError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "class_name", "train", "test"),
    [
        ("fashion-mnist", "FashionMNIST", {"train": True}, {"train": False}),
        ("kmnist", "KMNIST", {"train": True}, {"train": False}),
        ("qmnist", "QMNIST", {"what": "train"}, {"what": "test"}),
        (
            "emnist-digits",
            "EMNIST",
            {"split": "digits", "train": True},
            {"split": "digits", "train": False},
        ),
    ],
)
def test_other_sets_are_what_torchvision_reads(tmp_path, name, class_name, train, test):
    from torchvision import datasets as oracle

    source = DATA_SOURCES[name]
    files = dict(zip(source.files, small_files().values(), strict=True))
    if name == "qmnist":  # rows of eight big-endian integers, of which the first is the digit
        for file in (source.files[1], source.files[3]):
            digits = np.frombuffer(files[file][8:], dtype=np.uint8)
            rows = np.stack([digits, *[np.arange(len(digits)) + 1000] * 7], axis=1).astype(">i4")
            files[file] = struct.pack(">BBBB2I", 0, 0, 0x0C, 2, *rows.shape) + rows.tobytes()
    config = DataConfig(name=name, root=str(tmp_path))
    put(tmp_path / source.folder, files)
    dataset = load_dataset(config, seed=0)
    for split, store in ((train, dataset.train), (test, dataset.test)):
        expected = getattr(oracle, class_name)(tmp_path, **split)
        upright = expected.data.transpose(1, 2) if name == "emnist-digits" else expected.data
        assert torch.equal(store.images, upright)
        assert store.labels.tolist() == [int(label) for _, label in expected]
    streamed = load_dataset(replace(config, storage="streamed", num_train=9), seed=0)
    assert len(streamed.train) == 9
    ids = torch.tensor([[8, 0, 3], [3, 3, 7]])
    for one, other in zip(streamed.train.read(ids), dataset.train.read(ids), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_missing_files_are_those_that_do_not_exist(tmp_path):
    config = DataConfig(name="kmnist", root=str(tmp_path))
    assert [path.parent for path in missing_files(config)] == [tmp_path / "KMNIST" / "raw"] * 4
    files = small_files()
    absent = files.popitem()[0]
    put(tmp_path / "KMNIST" / "raw", files)
    assert missing_files(config) == [tmp_path / "KMNIST" / "raw" / absent]
    assert missing_files(replace(config, name="synthetic")) == []


def test_more_samples_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"data\.num_train = 5000: synthetic has 2048"):
        load_dataset(DataConfig(name="synthetic", num_train=5000), seed=0)
