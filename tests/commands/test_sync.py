"""`lockstep sync` without a server; with one, it is in tests/multiprocess/test_wandb_server.py."""

import pytest

from lockstep.commands.main import main
from run_folders import make_record, make_run


@pytest.fixture
def _key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)


def test_sync_without_a_key_is_one_line(tmp_path, capsys):
    assert main(["sync", str(tmp_path)]) == 2
    error = "lockstep: error: no W&B key was found; set WANDB_API_KEY, or run: wandb login\n"
    assert capsys.readouterr().err == error


@pytest.mark.usefixtures("_key")
def test_a_folder_without_logged_runs_is_refused(tmp_path, capsys):
    make_run(tmp_path / "run", [make_record(1)])
    assert main(["sync", str(tmp_path)]) == 2
    assert f"DIR = '{tmp_path}': holds no run that was logged to W&B" in capsys.readouterr().err


@pytest.mark.usefixtures("_key")
def test_runs_that_are_complete_are_left_alone(tmp_path, capsys):
    make_run(tmp_path / "run", [make_record(1)])
    for name in ("wandb-id", "wandb-synced"):
        (tmp_path / "run" / name).write_text("x")
    for folder in (tmp_path, tmp_path / "run"):
        assert main(["sync", str(folder)]) == 0
        assert capsys.readouterr().out == "lockstep: 1 of 1 run complete on W&B's server\n"


def test_help(capsys):
    assert main(["sync", "--help"]) == 0
    assert "usage: lockstep sync" in capsys.readouterr().out
    assert main(["sync"]) == 2
