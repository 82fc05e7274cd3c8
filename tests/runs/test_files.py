"""The files of a run folder, whole or cut short."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lockstep.errors import ConfigError
from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    checkpoint_step,
    checkpoints_in,
    files,
    newest_checkpoint_step,
    read_metrics,
    read_starts,
    read_summary,
    recorded_run,
    resume_steps,
    step_name,
    write_atomically,
)
from run_folders import SUMMARY, make_record, make_run


def test_a_finished_run_is_read_back(tmp_path):
    make_run(tmp_path / "run", [make_record(1), make_record(2, 0.5)], SUMMARY)
    assert read_metrics(tmp_path / "run") == [make_record(1), make_record(2, 0.5)]
    assert read_summary(tmp_path / "run") == SUMMARY
    assert read_starts(tmp_path / "run") == [{"step": 0, "format": 3, "world_size": 2, "device": "cpu"}]
    assert (read_metrics(tmp_path), read_starts(tmp_path), read_summary(tmp_path)) == ([], [], None)


def test_a_line_that_a_kill_cut_short_is_skipped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "lo\n{"step": 2}\n')
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: is damaged \(.*\); repair it, or move it away"):
        read_metrics(tmp_path)


def test_a_run_is_named_by_its_folder(tmp_path):
    assert recorded_run(make_run(tmp_path / "run", [make_record(1)])) == tmp_path / "run"
    with pytest.raises(ConfigError, match=r"RUN = '.*': is not a run folder; name one, such as runs/NAME"):
        recorded_run(str(tmp_path))
    with pytest.raises(ConfigError, match=r"RUN = '.*new': has no records yet; wait for train\.log_every"):
        recorded_run(make_run(tmp_path / "new", []))


@pytest.mark.parametrize(
    ("starts", "resumes"), [([0], []), ([0, 5, 5, 9], [5, 9]), ([0, 5, 9, 5], [5]), ([0, 5, 0], [])]
)
def test_a_resume_whose_steps_were_computed_again_does_not_count(starts, resumes):
    assert resume_steps([{"step": step} for step in starts]) == resumes


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "old")
    write_atomically(tmp_path / "file", b"new")

    def full_disk(path, content):
        path.write_bytes(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", "newest")
    assert (tmp_path / "file").read_text() == "new"


def test_several_writers_of_one_file_each_publish_the_whole_of_it(tmp_path):
    """The tasks of a sweep write the same table: one scratch file for all would vanish under its writer."""
    contents = [letter * 100_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "table", content), contents * 5))
    assert (tmp_path / "table").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_steps_name_folders_and_are_read_back(tmp_path):
    folder = tmp_path / CHECKPOINTS_FOLDER
    assert newest_checkpoint_step(tmp_path) == 0
    for name in (step_name(12), step_name(9), ".step-00000013.partial", "step-00000014.copy"):
        (folder / name).mkdir(parents=True)
    assert [checkpoint_step(path) for path in checkpoints_in(folder)] == [9, 12]
    assert newest_checkpoint_step(tmp_path) == 12
