"""One start of a run at a time; two real processes are in tests/commands/test_main.py."""

import errno
import os

import pytest
from filelock import FileLock

from lockstep.errors import ConfigError, RunStopped
from lockstep.runs.folder import folder_lock
from lockstep.runs.folder.disk import written
from lockstep.runs.folder.folder_lock import LOCK_FILE, locked_folder
from runs import fresh_ranks


def test_a_second_start_is_refused_until_the_first_has_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folder_lock, "LOCK_WAIT_SECONDS", 0)
    folder, ranks = tmp_path / "runs" / "run", fresh_ranks()
    with locked_folder(folder, ranks):
        refusal = r"run\.name: another process is training in '.*run'; stop it, or choose another name"
        with pytest.raises(ConfigError, match=refusal), locked_folder(folder, ranks):
            pass
    words = f"lockstep: another process is training in {str(folder)!r}; waiting up to 0 s for it to end\n"
    assert capsys.readouterr().out == words
    with FileLock(folder / LOCK_FILE, timeout=0):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    refusal = r"run\.dir = '.*file': cannot be written \(.*\); choose another folder"
    with pytest.raises(ConfigError, match=refusal), locked_folder(tmp_path / "file" / "run", fresh_ranks()):
        pass


@pytest.mark.parametrize("name", ["", "checkpoints", "evaluations", "set-aside"])
def test_a_colleagues_folder_is_refused_before_the_work(tmp_path, monkeypatch, name):
    folder, access = tmp_path / "run", os.access
    (folder / name).mkdir(parents=True)
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder / name and access(path, mode))
    refusal = rf"run\.dir = '{tmp_path}': {folder / name} cannot be written; choose another folder"
    with pytest.raises(ConfigError, match=refusal), locked_folder(folder, fresh_ranks()):
        pass


def test_a_file_that_may_not_be_written_stops_the_run_with_one_line(tmp_path):
    def write():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "inner")

    rule = (
        r"record cannot be written \(Permission denied, EACCES\); make it writable, then run the same command"
    )
    with pytest.raises(RunStopped, match=rule):
        written(tmp_path / "record", 5, write)
