"""Whether a run goes on with the data that it began with."""

from dataclasses import replace

import pytest

import lockstep
from image_files import synthetic_files
from lockstep.config import TrackingConfig, TrainConfig
from lockstep.errors import ConfigError
from runs import reset_accelerator, small_config


def test_other_files_of_a_set_of_digits_are_not_the_data_of_the_run(tmp_path):
    reset_accelerator()
    files = replace(synthetic_files(tmp_path / "data"), storage="resident", num_workers=0)
    config = small_config(
        tmp_path / "runs",
        data=files,
        train=TrainConfig(steps=2, report=False),
        tracking=TrackingConfig(mode="disabled"),
    )
    folder = lockstep.train(config).folder
    (folder / "summary.json").unlink()
    (labels,) = (tmp_path / "data").rglob("train-labels*")
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(content)
    with pytest.raises(ConfigError, match=r"data\.name = .*: run .* began with other data \(sha256 differ\)"):
        lockstep.train(config)
