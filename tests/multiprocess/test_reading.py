"""Data that draws as it is read: the same run with any number of processes and workers, over kills."""

import json
import sys

import pytest

from interruption import kill as kill_run
from interruption import start, wait_for_step
from processes import BIN, ROOT, read_run, run, with_support, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TASKS = ("noise", "crops", "albumented", "mixup", "together")
SHORT = ["--batch.global-size", "16", "--batch.micro-size", "4", "--train.log-every", "1"]
SHORT += ["--tracking.mode", "disabled", "--train.no-report"]
LONG = ["--task", "reading_tasks:everything", *SHORT, "--train.epochs", "4", "--train.checkpoint-every", "2"]


def results(num_processes, folder, num_workers, stop_at=0):
    result = workers(num_processes, "reading_worker.py", str(folder), str(num_workers), str(stop_at), *TASKS)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_data_is_read_alike_with_any_number_of_processes_and_workers(tmp_path):
    alone = results(1, tmp_path / "1", 0)
    shared = tmp_path / "shared"
    # Several ranks agree during the next step.
    assert results(4, shared, 1, stop_at=1) == dict.fromkeys(TASKS, 2)
    assert results(2, shared, 3, stop_at=3) == dict.fromkeys(TASKS, 4)  # past a short step
    assert results(1, shared, 3) == alone


def test_a_killed_run_continues_with_other_processes_and_workers(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert start(undisturbed, 1, recipe=LONG, env=with_support()).wait(timeout=100) == 0
    process = start(tmp_path, 4, "--data.num-workers", "1", recipe=LONG, env=with_support())
    wait_for_step(tmp_path, 5, process)
    assert kill_run(tmp_path, process)
    resumed = start(tmp_path, 1, "--data.num-workers", "3", recipe=LONG, env=with_support())
    assert resumed.wait(timeout=100) == 0
    one, other = read_run(tmp_path / "run"), read_run(undisturbed / "run")
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["test_loss"] == other["test_loss"]


def trained(num_processes, folder, task, *flags):
    """Runs `lockstep train` on a task of tests/support/reading_tasks.py."""
    words = [str(BIN / "torchrun"), f"--nproc_per_node={num_processes}", "--standalone", "-m", "lockstep"]
    launcher = [sys.executable, "-m", "lockstep"] if num_processes == 1 else words
    task_words = ["--task", f"reading_tasks:{task}", *SHORT, "--run.dir", str(folder), *flags]
    return run([*launcher, "train", *task_words], env=with_support(), cwd=ROOT)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_data_that_cannot_be_read_ends_every_process_at_once(tmp_path, num_processes):
    result = trained(num_processes, tmp_path, "failing", "--data.num-workers", "1")
    assert result.returncode == 1
    assert "failed: task.train: sample 7 cannot be read (reading_tasks.py line" in result.stderr
    assert "ValueError: no picture 7" in result.stderr
    words = ["--data.num-workers", "1", "--task.args.is-killed", "true"]
    killed = trained(num_processes, tmp_path, "failing", *words)
    assert killed.returncode == 1
    assert "failed: a process that reads the data has died: DataLoader worker" in killed.stderr
    if num_processes == 1:  # the other rank tells in a traceback that it lost this one
        assert "in take_step" not in result.stderr + killed.stderr


def test_data_of_other_lengths_is_refused_by_its_lengths(tmp_path):
    result = trained(2, tmp_path, "of_other_length")
    assert "error: task.train: has 41 samples on rank 1 and 40 on rank 0; give every process" in result.stderr
