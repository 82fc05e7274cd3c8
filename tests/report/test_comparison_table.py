"""What `lockstep compare` says of runs, finished or not."""

from lockstep.report import best_first, comparison_of
from lockstep.report.comparison_table import run_results
from lockstep.runs import TaskFacts, write_task_facts
from run_folders import SUMMARY, make_record, make_run


def test_settings_that_differ_are_columns(tmp_path):
    for seed in (1, 2):
        make_run(tmp_path / f"run-{seed}", [make_record(1)], seed=seed)
    folders = {path.name: path for path in sorted(tmp_path.iterdir())}
    header, *rows = comparison_of(folders).splitlines()
    assert header.split()[:4] == ["run", "seed", "state", "processes"]
    assert [row.split()[:3] for row in rows] == [["run-1", "1", "unfinished"], ["run-2", "2", "unfinished"]]
    assert comparison_of({}).split()[:2] == ["run", "state"]


def test_few_runs_are_columns_on_a_terminal_that_is_too_narrow(tmp_path):
    folders = {}
    for seed in range(1, 8):
        make_run(folder := tmp_path / f"run-{seed}", [make_record(1)], seed=seed)
        folders[folder.name] = folder
    few = dict(list(folders.items())[:2])
    header, *rows = comparison_of(few, 60).splitlines()
    assert header.split() == ["run", "run-1", "run-2"]
    assert rows[0].split() == ["seed", "1", "2"]
    assert comparison_of(few, 200) == comparison_of(few)
    assert comparison_of(folders, 60) == comparison_of(folders)


def test_the_results_of_a_run_that_is_not_finished_come_from_its_records(tmp_path):
    make_run(tmp_path / "run", [make_record(20, 0.75), make_record(40, 0.5), make_record(60)])
    assert run_results(tmp_path / "run") == {
        "state": "unfinished",
        "steps": 60,
        "samples_seen": 3840,
        "world_size": 2,
        "device": "cpu",
        "test_accuracy": 0.5,
        "test_loss": 0.5,
    }
    make_run(tmp_path / "done", [make_record(40, 0.98)], SUMMARY)
    assert run_results(tmp_path / "done") == {"state": "finished", **SUMMARY}


def test_the_best_value_is_that_of_the_validation_set(tmp_path):
    records = [
        make_record(step, accuracy, "validation") for step, accuracy in ((1, 0.5), (2, 0.75), (3, 0.25))
    ]
    make_run(tmp_path / "run", records)
    results = run_results(tmp_path / "run")
    assert (results["validation_accuracy"], results["best_validation_accuracy"]) == (0.25, 0.75)
    make_run(tmp_path / "weak", [make_record(1, 0.5, "validation")])
    folders = {name: tmp_path / name for name in ("weak", "run")}
    assert list(best_first(folders)) == ["run", "weak"]
    header = comparison_of(folders).splitlines()[0]
    assert "validation accuracy  best validation accuracy" in header


def test_a_best_value_of_an_older_version_is_not_shown(tmp_path):
    make_run(tmp_path / "run", [make_record(40, 0.98)], SUMMARY | {"best_test_accuracy": 0.99})
    assert "best_test_accuracy" not in run_results(tmp_path / "run")


def test_runs_without_a_test_come_last(tmp_path):
    make_run(tmp_path / "untested", [make_record(1)])
    make_run(tmp_path / "weak", [make_record(1, 0.1)])
    make_run(tmp_path / "good", [make_record(1, 0.9)])
    folders = {name: tmp_path / name for name in ("untested", "weak", "good")}
    assert list(best_first(folders)) == ["good", "weak", "untested"]


def test_of_an_error_the_lowest_is_the_best(tmp_path):
    for name, errors in (("good", (0.25, 0.5)), ("weak", (0.75, 0.625))):
        tests = [{"test_loss": error, "test_error": error} for error in errors]
        make_run(tmp_path / name, [make_record(step) | test for step, test in enumerate(tests, start=1)])
        write_task_facts(tmp_path / name, TaskFacts(headline="error"))
    folders = {name: tmp_path / name for name in ("weak", "good")}
    assert list(best_first(folders)) == ["good", "weak"]
    assert [run_results(folder)["test_error"] for folder in folders.values()] == [0.625, 0.5]


def test_each_headline_of_the_runs_has_its_columns(tmp_path):
    make_run(tmp_path / "digits", [make_record(1, 0.75)])
    make_run(tmp_path / "lines", [make_record(1) | {"test_loss": 0.5}])
    write_task_facts(tmp_path / "lines", TaskFacts())
    header, *rows = comparison_of({name: tmp_path / name for name in ("digits", "lines")}).splitlines()
    assert " ".join(header.split()).startswith("run state processes test accuracy test loss steps")
    assert [row.split()[3:5] for row in rows] == [["75.00%", "0.2500"], ["-", "0.5000"]]
