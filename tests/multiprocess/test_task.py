"""A user's task: the same run on any topology, from a script and by reference, over kills and resumes."""

import json

import pytest

from interruption import kill as kill_run
from interruption import start, wait_for_step
from processes import read_run, with_support, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TASKS = ("sentences", "line", "line_of_instances")
LONG = ["--task", "tasks:sentences", "--task.args.count", "300", "--batch.global-size", "32"]
LONG += ["--batch.micro-size", "8", "--train.epochs", "5", "--train.checkpoint-every", "2"]
LONG += ["--train.log-every", "1", "--tracking.mode", "disabled", "--train.no-report"]


def results(num_processes, folder):
    result = workers(num_processes, "task_worker.py", str(folder), *TASKS)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_a_task_is_the_same_run_on_any_topology(tmp_path):
    alone = results(1, tmp_path / "1")
    for entry in alone.values():
        assert entry["replay"] == ""
        assert entry["evaluated"] == entry["summary"]
    assert results(4, tmp_path / "4") == alone


def test_a_killed_run_of_a_task_continues_on_other_topologies_with_the_same_bits(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert start(undisturbed, 1, recipe=LONG, env=with_support()).wait(timeout=100) == 0
    process = start(tmp_path, 4, recipe=LONG, env=with_support())
    wait_for_step(tmp_path, 7, process)
    assert kill_run(tmp_path, process)
    assert start(tmp_path, 2, recipe=LONG, env=with_support()).wait(timeout=100) == 0
    one, other = read_run(tmp_path / "run"), read_run(undisturbed / "run")
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["test_loss"] == other["test_loss"]
    assert one["test_token_accuracy"] == other["test_token_accuracy"]
