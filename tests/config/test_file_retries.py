"""What a file system refuses for a moment is tried again; what it refuses for good is not."""

import errno
import os
from pathlib import Path

import pytest

from lockstep.config import is_file, is_folder, parse_config, with_retries
from lockstep.config.file_retries import PAUSES_SECONDS
from lockstep.errors import ConfigError
from run_folders import UNREADABLE, back_in_a_moment


def failing(number, times):
    """An action that fails so often; and the list of its calls."""
    calls = []

    def action():
        calls.append(1)
        if len(calls) <= times:
            raise OSError(number, os.strerror(number))
        return "done"

    return action, calls


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EINTR", "ENOTCONN"])
def test_what_passes_is_tried_again_with_one_line(capsys, impatient, name):
    action, calls = failing(getattr(errno, name), 2)
    assert with_retries(Path("/nfs/file"), action) == "done"
    assert len(calls) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lockstep: /nfs/file: ")
    assert line.endswith(f", {name}; trying again")


@pytest.mark.parametrize(("name", "tries"), [("EACCES", 1), ("ENOENT", 1), ("ENOSPC", 1), ("ESTALE", 3)])
def test_what_stays_is_raised(impatient, name, tries):
    action, calls = failing(getattr(errno, name), 99)
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
        with_retries(Path("file"), action)
    assert len(calls) == tries


def test_the_pauses_grow_and_no_command_waits_for_long():
    assert list(PAUSES_SECONDS) == sorted(PAUSES_SECONDS)
    assert sum(PAUSES_SECONDS) <= 10


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
def test_a_config_that_comes_back_is_read(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text("seed: 7\n")
    with back_in_a_moment(path):
        assert parse_config(["--config", str(path)]).seed == 7
    assert capsys.readouterr().err == f"lockstep: {path}: Input/output error, EIO; trying again\n"


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
def test_a_config_that_cannot_be_read_is_refused_with_the_name_of_the_error(tmp_path, impatient):
    (tmp_path / "recipe.yaml").symlink_to(UNREADABLE)
    with pytest.raises(ConfigError, match=r"recipe\.yaml': cannot be read \(Input/output error, EIO\)"):
        parse_config(["--config", str(tmp_path / "recipe.yaml")])


@pytest.mark.parametrize(("look", "name"), [(is_file, "file"), (is_folder, "folder")])
def test_a_look_at_a_path_is_tried_again_and_what_stays_unknown_is_refused(
    tmp_path, monkeypatch, capsys, impatient, look, name
):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to("round")
    assert [look(tmp_path / each) for each in ("file", "folder")] == [name == "file", name == "folder"]
    assert not any(look(tmp_path / each) for each in ("none", "file/below", "round"))
    action, calls = failing(errno.ESTALE, 2)
    whole = os.stat

    def stat(path):
        action()
        return whole(path)

    monkeypatch.setattr("lockstep.config.file_retries.os.stat", stat)
    assert look(tmp_path / name)
    assert len(calls) == 3
    assert capsys.readouterr().err.endswith(f"/{name}: Stale file handle, ESTALE; trying again\n")
    action, _ = failing(errno.EACCES, 99)
    with pytest.raises(ConfigError, match=rf"/{name}: cannot be read \(Permission denied, EACCES\); make it"):
        look(tmp_path / name)
