"""One start of a run at a time; two real processes are in tests/commands/test_main.py."""

import pytest
from filelock import FileLock

from lockstep.errors import ConfigError
from lockstep.runs.folder import folder_lock
from lockstep.runs.folder.folder_lock import LOCK_FILE, locked_folder
from runs import fresh_ranks


def test_a_second_start_is_refused_until_the_first_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "LOCK_WAIT_SECONDS", 0)
    folder, ranks = tmp_path / "runs" / "run", fresh_ranks()
    with locked_folder(folder, ranks):
        refusal = r"run\.name: another process is training in '.*run'; stop it, or choose another name"
        with pytest.raises(ConfigError, match=refusal), locked_folder(folder, ranks):
            pass
    with FileLock(folder / LOCK_FILE, timeout=0):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    refusal = r"run\.dir = '.*file': cannot be written \(.*\); choose another folder"
    with pytest.raises(ConfigError, match=refusal), locked_folder(tmp_path / "file" / "run", fresh_ranks()):
        pass
