"""The copy of a data folder on a node's own disk."""

import os

import pytest

from lockstep.commands.job import main
from lockstep.commands.stage_data import stage_data
from lockstep.errors import ConfigError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "one").write_text("first")
    return folder


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def test_each_state_of_a_source_has_a_folder_of_its_own(source, place, tmp_path):
    copy = stage_data(source, place)
    assert (copy / "train" / "one").read_text() == "first"
    assert stage_data(source, place) == copy
    (source / "train" / "two").write_text("second")
    changed = stage_data(source, place)
    assert (changed / "train" / "two").exists()
    assert not (copy / "train" / "two").exists()
    other = tmp_path / "other"
    source.rename(other)
    assert stage_data(other, place) not in (copy, changed)


def test_a_copy_that_something_has_changed_is_made_anew(source, place):
    copy = stage_data(source, place)
    (copy / "train" / "one").write_text("an intruder's, and longer")
    assert (stage_data(source, place) / "train" / "one").read_text() == "first"
    (copy / "train" / "one").unlink()
    assert (stage_data(source, place) / "train" / "one").read_text() == "first"


def test_a_folder_that_is_not_the_users_own_is_refused(source, place, tmp_path, capsys):
    own = place / f"lockstep-data-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"TMPDIR = .*: .* is not a folder of yours alone"):
        stage_data(source, place)
    own.unlink()
    own.mkdir()
    own.chmod(0o777)
    with pytest.raises(ConfigError, match="mode 700"):
        stage_data(source, place)
    own.chmod(0o700)
    assert main(["stage-data", str(source), str(place)]) == 0
    assert capsys.readouterr().out.startswith(str(own))
    assert main(["stage-data", str(source / "missing"), str(place)]) == 2
    assert "LOCKSTEP_STAGE_DATA = " in capsys.readouterr().err
