from dataclasses import replace
from pathlib import Path

import pytest
import wandb

from lockstep.config import to_yaml
from lockstep.errors import ConfigError
from lockstep.launch import read_launch
from lockstep.tracking import artifact_download
from lockstep.tracking.artifact_download import install_checkpoint
from lockstep.trainer import run_training
from runs import fresh_ranks, small_config


class Artifact:
    """Takes the place of wandb's: of a run with the seed of the small config, after 7 steps."""

    def __init__(self):
        self.metadata = {"step": 7, "run_id": "x"}

    def download(self, folder, skip_cache):
        (Path(folder) / "config.yaml").write_text(to_yaml(small_config()))
        return folder


def test_the_folder_of_another_run_is_refused_before_anything_is_fetched(tmp_path):
    config = small_config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(replace(config, seed=1)))
    fresh_ranks()
    with pytest.raises(ConfigError, match=r"seed = 0: run .* was started with 1; choose another run\.name"):
        run_training(config, read_launch(), began=0.0, resume_from="wandb:entity/project/run:latest")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "config.yaml"]


def test_an_artifact_of_another_run_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_download, "_find_artifact", lambda reference: Artifact())
    with pytest.raises(ConfigError, match=r"seed = 1: the run of wandb:p/run:best was started with 0; "):
        install_checkpoint("wandb:p/run:best", small_config(seed=1), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trouble", [ConnectionError("no route\nto host"), wandb.errors.CommError("denied")])
def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch, trouble):
    def fail(*_, **__):
        raise trouble

    monkeypatch.setattr(Artifact, "download", fail)
    monkeypatch.setattr(artifact_download, "_find_artifact", lambda reference: Artifact())
    with pytest.raises(
        ConfigError, match=r"--resume-from = 'wandb:p/run:best': could not be fetched \(.*\); check"
    ):
        install_checkpoint("wandb:p/run:best", small_config(), tmp_path)
