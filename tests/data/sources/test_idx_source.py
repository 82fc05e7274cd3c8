import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from image_files import put, small_files
from lockstep.data import DATA_SOURCES
from lockstep.data.images.idx import encode_idx
from lockstep.errors import ConfigError


@pytest.fixture
def source():
    """MNIST, if it were the small files."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in small_files().items()}
    return replace(DATA_SOURCES["mnist"], sha256=digests)


def test_both_splits_are_opened(tmp_path, source):
    put(tmp_path / "MNIST" / "raw", small_files())
    train, test = (split.load() for split in source.open(tmp_path, seed=0))
    assert train.images.shape == (20, 28, 28)
    assert train.images.dtype == torch.uint8
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_file_that_is_not_mnists_is_refused_by_name(tmp_path, source):
    put(tmp_path / "MNIST" / "raw", small_files())
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x08")
    with pytest.raises(ConfigError, match=r"t10k-labels-idx1-ubyte has the wrong content .*delete it"):
        source.open(tmp_path, seed=0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-labels-idx1-ubyte", b"\x1f\x8b", r"train-labels-idx1-ubyte is damaged .*delete it"),
        ("train-labels-idx1-ubyte", encode_idx(np.zeros(19, np.uint8)), r"\(20, 28, 28\) .* \(19,\)"),
        ("t10k-images-idx3-ubyte", encode_idx(np.zeros((8, 28, 14), np.uint8)), "28 x 28 pixels"),
        (
            "t10k-labels-idx1-ubyte",
            encode_idx(np.arange(3, 11, dtype=np.uint8)),
            "t10k-labels-idx1-ubyte has label 10 for image 7; labels must be 0 to 9: renumber",
        ),
    ],
)
def test_damaged_files_of_other_sets_are_refused(tmp_path, file, content, message):
    put(tmp_path / "KMNIST" / "raw", {**small_files(), file: content})
    with pytest.raises(ConfigError, match=message):
        DATA_SOURCES["kmnist"].open(tmp_path, seed=0)
