"""The files of a run folder: written atomically, named after steps."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from lockstep.errors import ConfigError, RunStopped
from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    checkpoint_step,
    checkpoints_in,
    newest_checkpoint_step,
    run_settings,
    step_name,
    to_json,
    write_atomically,
)
from lockstep.runs.folder import files
from lockstep.runs.folder.files import which_run


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "old")
    write_atomically(tmp_path / "file", b"new")

    def full_disk(path, content):
        path.write_bytes(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full_disk)
    with pytest.raises(RunStopped, match="No space"):
        write_atomically(tmp_path / "file", "newest")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "new"


def test_several_writers_of_one_file_each_publish_the_whole_of_it(tmp_path):
    """The tasks of a sweep write the same table: one scratch file for all would vanish under its writer."""
    contents = [letter * 100_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "table", content), contents * 5))
    assert (tmp_path / "table").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_json_has_null_for_a_number_that_is_not_finite():
    value = {"a": [1.5, math.nan], "b": {"c": (math.inf, -math.inf, 2, "x", None, True)}}
    assert to_json(value) == '{"a": [1.5, null], "b": {"c": [null, null, 2, "x", null, true]}}'


def test_a_wrong_run_folder_is_answered_with_the_one_that_is_meant(tmp_path):
    for name in ("mnist-cnn-ca3d163b", "mnist-rnn-9007f708"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    cnn, rnn = (tmp_path / name for name in ("mnist-cnn-ca3d163b", "mnist-rnn-9007f708"))
    assert which_run(tmp_path / "mnist-cnn-ca3d163") == f"perhaps you meant {cnn}"
    assert which_run(tmp_path / "debug-14") == "name one, such as runs/NAME"
    assert which_run(tmp_path) == f"name one of those in it, such as {rnn}"
    with pytest.raises(ConfigError, match=f"is not a run folder; perhaps you meant {rnn}"):
        run_settings(tmp_path / "mnist-rnn-9007f70")


def test_steps_name_folders_and_are_read_back(tmp_path):
    folder = tmp_path / CHECKPOINTS_FOLDER
    assert newest_checkpoint_step(tmp_path) == 0
    for name in (step_name(12), step_name(9), ".step-00000013.partial", "step-00000014.copy"):
        (folder / name).mkdir(parents=True)
    assert [checkpoint_step(path) for path in checkpoints_in(folder)] == [9, 12]
    assert newest_checkpoint_step(tmp_path) == 12
