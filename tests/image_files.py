"""The synthetic set as files: a run that streams it must equal one that generates it."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import DataConfig
from lockstep.data import TORCHVISION_SETS, raw_folder
from lockstep.data.idx import encode_idx
from lockstep.data.sources import SYNTHETIC_TEST, SYNTHETIC_TRAIN
from lockstep.data.synthetic import synthetic_images


def synthetic_files(root: Path, num_train: int = 600) -> DataConfig:
    """Writes the synthetic set of seed 0 where Fashion-MNIST's files would be; a config that streams it."""
    config = DataConfig(name="fashion-mnist", root=str(root), storage="streamed")
    arrays = (
        *synthetic_images(0, num_train, first_id=0),
        *synthetic_images(0, SYNTHETIC_TEST, first_id=SYNTHETIC_TRAIN),
    )
    raw_folder(config).mkdir(parents=True)
    for name, array in zip(TORCHVISION_SETS[config.name].files, arrays, strict=True):
        (raw_folder(config) / name).write_bytes(encode_idx(array))
    return config


def streamed_words(root: Path) -> list[str]:
    """The flags that stream the quick run's images from files."""
    config = synthetic_files(root)
    return ["--data.name", config.name, "--data.root", config.root, "--data.storage", "streamed"]
