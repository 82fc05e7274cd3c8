"""What a run folder tells of the past: whole, cut short, damaged, or unreadable."""

import json
import os
import time

import pytest

from lockstep.errors import ConfigError
from lockstep.runs import (
    mend_history,
    read_metrics,
    read_settings,
    read_starts,
    read_summary,
    read_task_facts,
    record_start,
    recorded_run,
    resume_steps,
)
from lockstep.runs.folder.set_aside import set_aside
from run_folders import DIGITS, SUMMARY, UNREADABLE, make_record, make_run
from runs import small_config


def test_a_finished_run_is_read_back(tmp_path):
    make_run(tmp_path / "run", [make_record(1), make_record(2, 0.5)], SUMMARY)
    assert read_metrics(tmp_path / "run") == [make_record(1), make_record(2, 0.5)]
    assert read_summary(tmp_path / "run") == SUMMARY
    assert read_starts(tmp_path / "run") == [{"step": 0, "format": 3, "world_size": 2, "device": "cpu"}]
    assert (read_metrics(tmp_path), read_starts(tmp_path), read_summary(tmp_path)) == ([], [], None)


def test_a_run_is_named_by_its_folder(tmp_path):
    assert recorded_run(make_run(tmp_path / "run", [make_record(1)])) == tmp_path / "run"
    with pytest.raises(ConfigError, match=r"RUN = '.*': is not a run folder; name one of those in it, such"):
        recorded_run(str(tmp_path))
    with pytest.raises(ConfigError, match=r"RUN = '.*new': has no records yet; wait for train\.log_every"):
        recorded_run(make_run(tmp_path / "new", []))


@pytest.mark.parametrize(
    ("starts", "resumes"), [([0], []), ([0, 5, 5, 9], [5, 9]), ([0, 5, 9, 5], [5]), ([0, 5, 0], [])]
)
def test_a_resume_whose_steps_were_computed_again_does_not_count(starts, resumes):
    assert resume_steps([{"step": step} for step in starts]) == resumes


def test_a_line_that_a_kill_cut_short_is_no_damage(tmp_path, capsys):
    run = tmp_path / "run"
    make_run(run, [make_record(1)])
    for name in ("metrics.jsonl", "starts.jsonl"):
        with (run / name).open("a") as file:
            file.write('{"step": 2, "sam')
    mend_history(run)
    assert read_metrics(run) == [make_record(1)]
    for step in (1, 2, 3):  # the start after the next one once found two lines in one
        record_start(small_config(), run, step, {"device": "cpu"}, {})
        assert [start["step"] for start in read_starts(run)] == [0, 1, 2, 3][: step + 1]
    assert capsys.readouterr().err == ""
    assert not (run / "set-aside").exists()


def test_older_records_with_nan_are_read(tmp_path):
    line = json.dumps(make_record(1) | {"loss": float("nan")})
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    assert read_metrics(tmp_path) == [make_record(1) | {"loss": None}]


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "starts.jsonl", "summary.json", "task.json", "dataset.json"]
)
@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00 rubbish\n\x80", b"[]\n", b"{}x{\n", b"3\n", b"[" * 1_200 + b"\n", b"!!python/x 1\n"],
)
def test_a_start_sets_damaged_files_aside_with_one_warning(tmp_path, capsys, name, content):
    run = tmp_path / "run"
    make_run(run, [make_record(1)], SUMMARY)
    (run / "dataset.json").write_text('{"name": "mine"}')
    (run / name).write_bytes(content)
    mend_history(run)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lockstep: warning: {run / name} is damaged (")
    assert f"was set aside as {run / 'set-aside' / name}.1" in line
    assert (run / "set-aside" / f"{name}.1").read_bytes() == content
    mend_history(run)
    read = [read_settings(run), read_metrics(run), read_starts(run), read_summary(run), read_task_facts(run)]
    assert [bool(value) for value in read].count(False) == (name not in ("task.json", "dataset.json"))
    assert read_task_facts(run).classes == DIGITS.classes
    assert capsys.readouterr().err == ""


def test_the_whole_lines_of_a_damaged_file_stay(tmp_path, capsys):
    make_run(tmp_path / "run", [make_record(1)])
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\n" + json.dumps(make_record(2)).encode() + b"\n")
    mend_history(tmp_path / "run")
    assert "metrics.jsonl is damaged (line 2)" in capsys.readouterr().err
    assert read_metrics(tmp_path / "run") == [make_record(1), make_record(2)]


@pytest.mark.skipif(not UNREADABLE.exists(), reason="reads a file of Linux")
def test_a_file_that_cannot_be_read_is_not_damaged(tmp_path, impatient):
    (tmp_path / "metrics.jsonl").symlink_to(UNREADABLE)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be read \(Input/output error, EIO\)"):
        mend_history(tmp_path)
    assert (tmp_path / "metrics.jsonl").is_symlink()


def test_what_was_set_aside_is_deleted_after_a_month(tmp_path):
    (tmp_path / ".metrics.jsonl.1f.partial").touch()  # of a write that was killed
    for name in ("metrics.jsonl", "metrics.jsonl", "step-00000001"):
        (tmp_path / name).mkdir() if name.startswith("step") else (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
        set_aside(tmp_path / name, tmp_path)
    mend_history(tmp_path)  # what is old is not yet long aside
    aside = tmp_path / "set-aside"
    assert sorted(os.listdir(aside)) == ["metrics.jsonl.1", "metrics.jsonl.2", "step-00000001.1"]
    month_ago = time.time() - 31 * 24 * 3600
    for name in ("metrics.jsonl.1", "step-00000001.1"):
        os.utime(aside / name, (month_ago, month_ago))
    os.utime(tmp_path / ".metrics.jsonl.1f.partial", (month_ago, month_ago))
    mend_history(tmp_path)
    assert os.listdir(aside) == ["metrics.jsonl.2"]
    assert os.listdir(tmp_path) == ["set-aside"]
