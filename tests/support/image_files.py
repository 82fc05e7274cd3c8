"""Writes small data sets as files in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lockstep.config import DataConfig
from lockstep.data import DATA_SOURCES
from lockstep.data.images.idx import encode_idx
from lockstep.data.sources.synthetic import NUM_TEST, NUM_TRAIN, synthetic_images


def small_files() -> dict[str, bytes]:
    """Four IDX files of 20 training and 8 test images."""
    pixels = np.arange(28 * 28 * 28, dtype=np.int64).reshape(28, 28, 28) % 251
    labels = np.arange(28) % 10
    return {
        "train-images-idx3-ubyte": encode_idx(pixels[:20].astype(np.uint8)),
        "train-labels-idx1-ubyte": encode_idx(labels[:20].astype(np.uint8)),
        "t10k-images-idx3-ubyte": encode_idx(pixels[20:].astype(np.uint8)),
        "t10k-labels-idx1-ubyte": encode_idx(labels[20:].astype(np.uint8)),
    }


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Writes files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def synthetic_files(root: Path, num_train: int = 600) -> DataConfig:
    """Writes the synthetic set of seed 0 as Fashion-MNIST's files; returns a config that streams it.

    A run that streams it must equal one that generates it.
    """
    config = DataConfig(name="fashion-mnist", root=str(root), storage="streamed", num_workers=1)
    arrays = (
        *synthetic_images(0, num_train, first_id=0),
        *synthetic_images(0, NUM_TEST, first_id=NUM_TRAIN),
    )
    source = DATA_SOURCES[config.name]
    put(root / source.folder, dict(zip(source.files, map(encode_idx, arrays), strict=True)))
    return config


def streamed_words(root: Path) -> list[str]:
    """Writes the quick run's images to files; returns the flags that stream them."""
    config = synthetic_files(root)
    words = ["--data.name", config.name, "--data.root", config.root]
    return [*words, "--data.storage", "streamed", "--data.num-workers", "1"]
