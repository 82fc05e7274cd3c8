"""What a run folder holds, anyone may have written: values of another kind, pipes, devices, endless YAML."""

import json
import os
import shutil

import pytest

from lockstep.errors import ConfigError
from lockstep.runs import mend_history, read_metrics
from run_folders import SUMMARY, make_record, make_run

OTHER_VALUES = {
    "starts.jsonl": [
        *({name: "x"} for name in ("cpu", "gpu", "git", "packages", "world_size", "step")),
        *({name: {"own": 5}} for name in ("sources", "versions", "packages")),
        *({"device": 5}, {"signature": "é"}, {"step": 10**30}, {"num_threads": 0}),
    ],
    "metrics.jsonl": [{"step": 10**400}, {"loss": [1]}, {"loss": 2**63}, {"weights_digest": 3}],
    "summary.json": [
        *({"steps": "6"}, {"steps": -1}, {"steps": 6.5}, {"train_seconds": None}),
        *({"weights_sha256": 5}, {"world_size": []}),
    ],
    "task.json": [{"classes": 5}, {"classes": [1, None]}, {"headline": 3}, {"higher_is_better": "x"}],
    "dataset.json": [{"name": 5}, {"channels": 3}, {"num_train": "x"}],
}
BOMB = "model:\n  args:\n    a: &a [0, 0]\n" + "".join(
    f"    {name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefghijklmn", "bcdefghijklmno", strict=True)
)
"""Five to the power of fourteen values."""
OTHER_CONTENT = [
    ("metrics.jsonl", '{"step": 1, "samples_seen": 1, "loss": 1e999}\n'),
    ("config.yaml", "seed: 2001-01-01\n"),
    ("config.yaml", BOMB),
]


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run", [make_record(1)], SUMMARY)
    (tmp_path / "run" / "dataset.json").write_text('{"name": "mine"}')
    return tmp_path / "run"


def assert_set_aside(path, capsys):
    """A start sets a file aside with one warning, and then finds nothing more."""
    mend_history(path.parent)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lockstep: warning: {path} is damaged (")
    assert os.path.lexists(path.parent / "set-aside" / f"{path.name}.1")
    mend_history(path.parent)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "values"), [(name, each) for name in OTHER_VALUES for each in OTHER_VALUES[name]]
)
def test_a_value_of_another_kind_is_damage(run, capsys, name, values):
    path = run / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values) + "\n")
    assert_set_aside(path, capsys)


@pytest.mark.parametrize(("name", "content"), OTHER_CONTENT)
def test_a_number_that_is_none_a_date_and_endless_settings_are_damage(run, capsys, name, content):
    (run / name).write_text(content)
    assert_set_aside(run / name, capsys)


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "starts.jsonl", "summary.json", "task.json"]
)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_not_read(run, capsys, name, make):
    (run / name).unlink()
    make(run / name)
    if name == "metrics.jsonl":
        assert read_metrics(run) == []
        assert f"{run / name} is damaged (is a pipe or a device); continuing" in capsys.readouterr().err
    assert_set_aside(run / name, capsys)


def test_a_file_where_a_folder_belongs_is_set_aside_or_refused(run, capsys):
    (run / "evaluations").write_text("mine")
    mend_history(run)
    assert (run / "set-aside" / "evaluations.1").read_text() == "mine"
    assert "evaluations is no folder and was set aside" in capsys.readouterr().err
    shutil.rmtree(run / "set-aside")
    (run / "set-aside").write_text("mine")
    with pytest.raises(ConfigError, match=r"file = '.*set-aside': must be a folder"):
        mend_history(run)
