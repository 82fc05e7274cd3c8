import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import wandb
import yaml

from lockstep.config import to_yaml
from lockstep.errors import ConfigError
from lockstep.launch import read_launch
from lockstep.runs.checkpoints.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from lockstep.tracking.artifacts import artifact_download
from lockstep.tracking.artifacts.artifact_download import (
    artifact_config,
    artifact_weights,
    find_artifact,
    install_checkpoint,
)
from lockstep.trainer import run_training
from runs import fresh_ranks, small_config

REFERENCE = "wandb:p/run:best"
WEIGHTS = {"weight": torch.arange(3.0)}


class Artifact:
    """Takes the place of wandb's: of a run with the seed of the small config, after 7 steps."""

    def __init__(self, folder):
        self.folder, self.refs, self.fetched = folder, {}, []
        self.metadata = {"step": 7, "run_id": "abc", "weights_sha256": weights_sha256(WEIGHTS)}
        saved = save_checkpoint(folder, Checkpoint(step=7, weights=WEIGHTS, state={"a": 1}, info={}))
        saved.rename(folder / "checkpoint")
        (folder / "checkpoint" / "more.pt").write_bytes(b"not asked for")
        (folder / "config.yaml").write_text(to_yaml(small_config()))
        (folder / "metrics.jsonl").write_text('{"step": 7, "samples_seen": 448, "loss": 1.0}\n')
        (folder / "starts.jsonl").write_text('{"step": 0, "format": 3}\n')

    @property
    def manifest(self):
        names = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*")]
        return SimpleNamespace(entries=dict.fromkeys(names))

    def get_entry(self, name):
        if not (self.folder / name).exists():
            raise KeyError(f"Path not contained in artifact: {name}")

        def download(root, skip_cache):
            assert skip_cache
            self.fetched.append(name)
            target = type(self.folder)(root) / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((self.folder / name).read_bytes())
            return str(target)

        return SimpleNamespace(ref=self.refs.get(name), download=download)


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    made = Artifact(tmp_path / "server")
    monkeypatch.setattr(artifact_download, "_on_server", lambda name: made)
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_folder_of_another_run_is_refused_before_anything_is_fetched(tmp_path):
    config = small_config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(replace(config, seed=1)))
    fresh_ranks()
    with pytest.raises(ConfigError, match=r"seed = 0: run .* was started with 1; choose another run\.name"):
        run_training(config, read_launch(), began=0.0, resume_from="wandb:entity/project/run:latest")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "config.yaml"]


def test_a_run_folder_gets_the_checkpoint_the_records_and_the_id(artifact, folder):
    install_checkpoint(REFERENCE, small_config(), folder)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        *(f"checkpoints/step-00000007/{name}" for name in ("manifest.json", "state.pt")),
        *("checkpoints/step-00000007/weights.safetensors", "config.yaml", "metrics.jsonl", "starts.jsonl"),
        "wandb-id",
    ]
    assert (folder / "wandb-id").read_text() == "abc"
    assert (folder / "wandb" / "run-abc").is_dir()


def test_an_artifact_of_another_run_leaves_nothing_behind(artifact, folder):
    with pytest.raises(ConfigError, match=r"seed = 1: the run of wandb:p/run:best was started with 0; "):
        install_checkpoint(REFERENCE, small_config(seed=1), folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run_id", "../../../outside"),
        ("run_id", "/outside"),
        ("run_id", ".."),
        ("run_id", ""),
        ("run_id", 7),
        ("run_id", None),
        ("step", "7"),
        ("step", True),
        ("step", -1),
        ("step", None),
        ("weights_sha256", None),
    ],
)
def test_metadata_that_is_not_a_runs_is_refused(artifact, folder, name, value):
    artifact.metadata[name] = value
    with pytest.raises(ConfigError, match=rf"was not made by lockstep; name .* \({name} in its metadata is"):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not artifact.fetched
    assert not list(folder.iterdir())


def test_a_step_that_the_checkpoint_does_not_have_is_refused(artifact, folder):
    artifact.metadata["step"] = 8
    with pytest.raises(ConfigError, match=r"says step 8, and its checkpoint is of step 7"):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not list(folder.iterdir())


def test_the_weights_alone_begin_another_run(artifact):
    weights = artifact_weights(REFERENCE, "--init-from")
    assert weights_sha256(weights) == artifact.metadata["weights_sha256"]
    artifact.metadata["weights_sha256"] = "0" * 64
    with pytest.raises(ConfigError, match=r"--init-from = .* has weights that differ from its metadata"):
        artifact_weights(REFERENCE, "--init-from")


def test_other_weights_than_the_metadata_says_are_refused(artifact, folder):
    artifact.metadata["weights_sha256"] = "0" * 64
    with pytest.raises(ConfigError, match=r"has weights that differ from its metadata"):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "metrics.jsonl", "starts.jsonl", "checkpoint/state.pt"],
)
def test_an_artifact_without_a_file_leaves_nothing_behind(artifact, folder, name):
    (artifact.folder / name).unlink()
    with pytest.raises(ConfigError, match=rf"(could not be fetched|is damaged) \(.*{name.split('/')[-1]}"):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("line", ['{"step": "x"}', "[]", '{"loss": 1}'])
def test_records_of_another_shape_leave_nothing_behind(artifact, folder, line):
    (artifact.folder / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"--resume-from = .* is damaged \("):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not list(folder.iterdir())


def test_a_changed_checkpoint_leaves_nothing_behind(artifact, folder):
    manifest = artifact.folder / "checkpoint" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "step": 8}))
    with pytest.raises(ConfigError, match=r"is damaged \(checkpoint: manifest.json does not match its own"):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not list(folder.iterdir())


def test_an_entry_that_refers_to_a_file_elsewhere_is_not_followed(artifact, folder):
    artifact.refs["checkpoint/state.pt"] = "file:///etc/passwd"
    with pytest.raises(ConfigError, match=r"state.pt is a reference to file:///etc/passwd"):
        install_checkpoint(REFERENCE, small_config(), folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("trouble", [ConnectionError("no route\nto host"), wandb.errors.CommError("denied")])
def test_a_download_that_fails_is_one_line(artifact, folder, monkeypatch, trouble):
    def fail(name):
        raise trouble

    monkeypatch.setattr(artifact, "get_entry", fail)
    with pytest.raises(
        ConfigError, match=r"--resume-from = 'wandb:p/run:best': could not be fetched \(.*\); check"
    ):
        install_checkpoint(REFERENCE, small_config(), folder)


def test_a_name_without_a_project_is_refused():
    with pytest.raises(ConfigError, match=r"must be wandb:\[ENTITY/\]PROJECT/NAME:ALIAS"):
        find_artifact("wandb:run")


def test_where_is_written_is_not_the_artifacts_to_say(artifact, capsys):
    tree = yaml.safe_load((artifact.folder / "config.yaml").read_text())
    tree |= {"data": {"root": "/theirs"}, "run": {"dir": "/theirs", "name": "../theirs"}}
    tree["tracking"] = {"project": "theirs", "entity": "them", "mode": "online"}
    (artifact.folder / "config.yaml").write_text(yaml.safe_dump(tree))
    config = artifact_config("wandb:us/p/run:best", ["--run.dir", "here"])
    assert (config.run.dir, config.run.name, config.data.root) == ("here", "run", "data")
    assert (config.tracking.entity, config.tracking.project, config.tracking.mode) == ("us", "p", "auto")
    assert config.batch == small_config().batch
    assert "--data.root /theirs" in capsys.readouterr().err


def test_an_artifact_names_no_code_but_the_recorded(artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\n")
    (artifact.folder / "config.yaml").write_text("model: {name: 'own:Net'}\n")
    with pytest.raises(ConfigError, match=r"is what wandb:p/run:best names, and its source was not recorded"):
        artifact_config(REFERENCE, [])
    assert artifact_config(REFERENCE, ["--model.name", "own:Net"]).model.name == "own:Net"
    assert not (tmp_path / "ran").exists()
