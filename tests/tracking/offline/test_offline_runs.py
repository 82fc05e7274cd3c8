"""The steps in W&B's own folder, and which offline starts `wandb sync` gets."""

import subprocess

import pytest
from wandb.proto import wandb_internal_pb2

from lockstep.tracking.offline.offline_runs import highest_logged_step, upload_offline_starts


def make_start(folder, name, *steps):
    """A start's folder, as the W&B client leaves it."""
    (folder / "wandb" / name).mkdir(parents=True)
    content = bytes(7)
    for step in steps:
        record = wandb_internal_pb2.Record()
        record.history.step.num = step
        data = record.SerializeToString()
        content += bytes(4) + len(data).to_bytes(2, "little") + b"\x01" + data
    path = folder / "wandb" / name / f"run-{name[-1]}.wandb"
    path.write_bytes(content)
    return path


def test_the_highest_step_is_that_of_all_starts(tmp_path):
    assert highest_logged_step(tmp_path) == 0
    make_start(tmp_path, "offline-run-1-x", 1, 7)
    make_start(tmp_path, "run-2-x", 5)
    assert highest_logged_step(tmp_path) == 7


@pytest.fixture
def commands(monkeypatch):
    """The commands that would be run."""
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    return commands


def test_offline_starts_are_uploaded_in_their_order(tmp_path, commands):
    second = make_start(tmp_path, "offline-run-2-x", 2)
    first = make_start(tmp_path, "offline-run-1-x", 1)
    make_start(tmp_path, "offline-run-3-x")  # a kill left nothing in it
    upload_offline_starts(tmp_path)
    assert [command[1:] for command in commands] == [["-m", "wandb", "sync", str(first), str(second)]]
    first.with_name(f"{first.name}.synced").touch()
    upload_offline_starts(tmp_path)
    assert commands[1][4:] == [str(second)]


def test_nothing_is_uploaded_as_a_whole_after_an_online_start(tmp_path, commands):
    make_start(tmp_path, "offline-run-1-x", 1)
    make_start(tmp_path, "run-2-x", 2)
    upload_offline_starts(tmp_path)
    assert commands == []
