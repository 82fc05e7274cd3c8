"""Completing one run on W&B's server; with a real server it is in tests/multiprocess/test_wandb_server.py."""

import json

import pytest
import yaml
from filelock import FileLock

from lockstep.tracking.sync_run import sync_run
from run_folders import SUMMARY, make_record, make_run


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path / "run", [make_record(1)], SUMMARY)
    (tmp_path / "run" / "wandb-id").write_text("x")
    return tmp_path / "run"


def test_a_run_that_is_training_is_left_alone(folder, capsys):
    with FileLock(folder / ".lock"):
        assert not sync_run(folder)
    assert capsys.readouterr().out == f"lockstep: {folder}: is still training; sync it after it has ended\n"


def test_a_run_with_damaged_settings_is_one_line(folder, capsys):
    (folder / "config.yaml").write_bytes(b"\xff\xfe rubbish")
    assert not sync_run(folder)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"lockstep: {folder}: ")
    assert "is not YAML" in line


def test_a_run_of_another_project_is_left_alone_unless_it_is_named(folder, monkeypatch, capsys):
    places: list[str] = []

    class Complete:
        """Takes the place of the upload, which needs a server."""

        is_complete = True

        def __init__(self, folder, tracking, *_, **__):
            places.append(f"{tracking.entity}/{tracking.project}/{tracking.group}")

        def close(self, status, reason):
            pass

    monkeypatch.setattr("lockstep.tracking.sync_run.WandbRun", Complete)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["tracking"] |= {"project": "theirs", "entity": "them", "group": "g"}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    for own in ({}, {"project": "theirs"}, {"project": "lockstep", "entity": "them"}):
        assert not sync_run(folder, **own)
        (line,) = capsys.readouterr().out.splitlines()
        command = f"lockstep sync {folder} --tracking.project theirs --tracking.entity them"
        assert line.endswith(f"is a run of project 'theirs' of 'them'; to upload it there: {command}")
    assert sync_run(folder, "theirs", "them")
    assert places == ["them/theirs/g"]


def test_a_lock_that_is_a_link_out_of_the_folder_is_one_line(folder, tmp_path, capsys):
    (tmp_path / "outside").write_text("precious")
    (folder / ".lock").symlink_to(tmp_path / "outside")
    assert not sync_run(folder)
    assert "remove the link" in capsys.readouterr().out
    assert (tmp_path / "outside").read_text() == "precious"


def test_a_run_that_is_synced_from_inside_has_its_folders_name(folder, monkeypatch, capsys):
    class Complete:
        """Takes the place of the upload, which needs a server."""

        is_complete = True

        def __init__(self, folder, *_, **__):
            names.append(folder.name)

        def close(self, status, reason):
            endings.append(status)

    names: list[str] = []
    endings: list[str] = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr("lockstep.tracking.sync_run.WandbRun", Complete)
    assert sync_run(type(folder)("."))
    assert (names, endings) == (["run"], ["finished"])
    assert capsys.readouterr().out == "lockstep: .: complete\n"


@pytest.mark.parametrize(
    ("summary", "ended", "expected"),
    [
        (None, {"status": "failed", "reason": "no more data"}, ("failed", "no more data")),
        (None, {"status": "interrupted", "reason": ""}, ("interrupted", "")),
        (None, None, ("interrupted", "")),
        (SUMMARY, {"status": "finished", "reason": ""}, ("finished", "")),
    ],
)
def test_a_run_is_synced_as_it_ended(tmp_path, monkeypatch, summary, ended, expected):
    endings = []

    class Complete:
        """Takes the place of the upload, which needs a server."""

        is_complete = True

        def __init__(self, folder, *_, **__):
            (folder / "wandb-ending.json").unlink(missing_ok=True)

        def close(self, *ending):
            endings.append(ending)

    make_run(tmp_path / "run", [make_record(1)], summary)
    if ended:
        (tmp_path / "run" / "wandb-ending.json").write_text(json.dumps(ended))
    monkeypatch.setattr("lockstep.tracking.sync_run.WandbRun", Complete)
    assert sync_run(tmp_path / "run")
    assert endings == [expected]


def test_an_odd_folder_is_one_line(folder, monkeypatch, capsys):
    def fail(*_, **__):
        raise ZeroDivisionError("odd\nfolder")

    monkeypatch.setattr("lockstep.tracking.sync_run.WandbRun", fail)
    assert not sync_run(folder)
    line = f"lockstep: {folder}: could not be uploaded (ZeroDivisionError: odd folder)\n"
    assert capsys.readouterr().out == line
