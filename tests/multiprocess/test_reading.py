"""Data that draws as it is read: the same run with any number of processes and workers, over kills."""

import json
import sys

import pytest

from processes import BIN, ROOT, run, with_support, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TASKS = ("together", "everything")
SHORT = ["--batch.global-size", "16", "--batch.micro-size", "4", "--train.log-every", "1"]
SHORT += ["--tracking.mode", "disabled", "--train.no-report"]


def launched(num_processes, folder, num_workers, *words):
    return workers(num_processes, "reading_worker.py", str(folder), str(num_workers), *words)


def results(*launch):
    result = launched(*launch)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_data_is_read_alike_with_any_number_of_processes_and_workers(tmp_path):
    """Stopped or killed on four processes with one worker each, stopped on two with three, and ended on one.

    Workers had read ahead each time.
    """
    alone = results(1, tmp_path / "1", 0, *TASKS)
    shared = tmp_path / "shared"
    killed = launched(4, shared, 1, "together:3:SIGTERM", "everything:3:SIGKILL")
    assert killed.returncode != 0
    assert "Signal 9 (SIGKILL)" in killed.stderr
    saved = {
        name: max(path.name for path in (shared / name / "checkpoints").glob("step-*")) for name in TASKS
    }
    # Several ranks agree during the next step, here past a short one. The run that was killed has lost one.
    assert saved == {"together": "step-00000004", "everything": "step-00000002"}
    stopped = results(2, shared, 3, *(f"{name}:5:SIGTERM" for name in TASKS))
    assert stopped == dict.fromkeys(TASKS, 6)
    assert results(1, shared, 3, *TASKS) == alone


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
