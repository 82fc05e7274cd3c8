"""Signals and kills at any moment: the final weights are those of an uninterrupted run."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from forked import Popen
from image_files import streamed_words
from interruption import LONG, kill, start, wait_for_step
from processes import BIN, QUICK, ROOT, read_run, train_quick, with_support

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("LOCKSTEP_KILLS", "2"))  # per model
MODELS = {
    "cnn": [],
    "batch_norm_and_f_dropout": ["--model.name", "user_models:NormAndDropout", "--model.dropout", "0"],
}
TOPOLOGIES = (1, 1, 2, 2, 4)
STORAGES = (
    ["--data.storage", "resident"],
    ["--data.storage", "streamed", "--data.num-workers", "0"],
    ["--data.storage", "streamed", "--data.num-workers", "1"],
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train_quick(tmp_path_factory.mktemp("undisturbed"), "run", 1, *LONG[len(QUICK) :])


def assert_same_run(folder, undisturbed):
    summary = read_run(folder / "run")
    assert summary["weights_sha256"] == undisturbed["weights_sha256"]
    assert summary["test_loss"] == undisturbed["test_loss"]
    assert [record["step"] for record in summary["records"]] == list(range(1, 37))
    for name in ("loss", "grad_norm"):
        assert [record[name] for record in summary["records"]] == [
            record[name] for record in undisturbed["records"]
        ]


def test_a_run_stopped_by_a_signal_can_be_resumed(tmp_path, undisturbed):
    """One run, stopped by each signal in turn."""
    for stops, number in enumerate((signal.SIGTERM, signal.SIGUSR2, signal.SIGINT), start=1):
        done = read_steps(tmp_path)
        process = start(tmp_path, 1, env={"LOCKSTEP_RESUMABLE_FILE": str(tmp_path / "resumable")})
        wait_for_step(tmp_path, done + 1, process)
        process.send_signal(number)
        assert process.wait(timeout=30) == 75
        output = (tmp_path / "output").read_text()
        assert output.count("interrupted after step") == stops
        assert "Traceback" not in output
        (tmp_path / "resumable").unlink()  # it is there
        assert not (tmp_path / "run" / "summary.json").exists()
    assert start(tmp_path, 1).wait(timeout=60) == 0
    assert_same_run(tmp_path, undisturbed)


def test_processes_of_its_own_stop_with_a_checkpoint_and_keep_their_threads(tmp_path, undisturbed):
    process = start(tmp_path, 1, "--processes", "2")
    wait_for_step(tmp_path, 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    output = (tmp_path / "output").read_text()
    assert output.count("interrupted after step") == 1
    assert "Traceback" not in output
    assert start(tmp_path, 1, env={"OMP_NUM_THREADS": "2"}).wait(timeout=60) == 0
    output = (tmp_path / "output").read_text()
    assert "num_threads = 1, as in the start before, and not 2" in output
    assert "may differ in their last bits" not in output
    assert_same_run(tmp_path, undisturbed)


def test_ctrl_c_also_reaches_the_workers_of_a_streamed_run(tmp_path, undisturbed):
    words = streamed_words(tmp_path / "data")
    process = start(tmp_path, 1, *words, start_new_session=True)
    wait_for_step(tmp_path, 4, process)
    os.killpg(process.pid, signal.SIGINT)  # to every process of the group, as a terminal does
    assert process.wait(timeout=30) == 75
    output = (tmp_path / "output").read_text()
    assert "600+512 streamed" in output
    assert "Traceback" not in output
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(process.pid, 0)
    assert start(tmp_path, 1, *words, "--data.storage", "resident").wait(timeout=60) == 0
    assert_same_run(tmp_path, undisturbed)


def test_a_terminal_that_closes_stops_the_run_and_a_reader_that_goes_away_does_not(tmp_path, undisturbed):
    words = [*streamed_words(tmp_path / "data"), "--run.dir", str(tmp_path), "--run.name", "run"]
    command = [str(BIN / "lockstep"), "train", *LONG, *words]
    screen, terminal = os.openpty()
    on_terminal = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    process = subprocess.Popen(["setsid", "--ctty", *command], cwd=ROOT, **on_terminal)
    os.close(terminal)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        os.read(screen, 4096)
    os.close(screen)  # a lost ssh: SIGHUP, and then each write fails
    assert process.wait(timeout=60) == 75
    assert not (tmp_path / "run" / "summary.json").exists()

    with Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert "resuming" in "".join(process.stdout.readline().decode() for _ in range(2))
    assert process.returncode == 0  # leaving the block closed the pipe
    assert_same_run(tmp_path, undisturbed)


def test_a_stop_file_stops_the_run(tmp_path):
    (tmp_path / "stop").touch()
    process = start(tmp_path, 1, "--train.report", env={"LOCKSTEP_STOP_FILE": str(tmp_path / "stop")})
    assert process.wait(timeout=60) == 75
    assert (tmp_path / "run" / "report" / "curves.png").exists()
    assert "interrupted after step 1," in (tmp_path / "output").read_text()


def test_a_second_ctrl_c_stops_immediately(tmp_path):
    process = start(
        tmp_path,
        1,
        "--train.epochs",
        "100000",
        "--model.name",
        "user_models:Slow",
        "--model.dropout",
        "0",
        env=with_support(),
    )
    wait_for_step(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # it waits for a step that takes a minute
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == -signal.SIGINT


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.timeout(120 + 60 * KILLS)
def test_kill_at_random_moments(tmp_path, undisturbed, model):
    """T8: kill -9 of every process, also during a save, then the same command again.

    On 1, 2 or 4 processes, with data that is resident or streamed, as it comes.
    """
    generator = random.Random(model)
    files = streamed_words(tmp_path / "data")
    env = with_support()

    def begin(num_processes, storage):
        return start(tmp_path, num_processes, *files, *storage, *MODELS[model], env=env)

    if MODELS[model]:
        assert begin(1, STORAGES[0]).wait(timeout=100) == 0
        undisturbed = read_run(tmp_path / "run")
        shutil.rmtree(tmp_path / "run")
    kills = 0
    deadline = time.monotonic() + 60 * KILLS
    while kills < KILLS:
        assert time.monotonic() < deadline
        process = begin(generator.choice(TOPOLOGIES), generator.choice(STORAGES))
        done = read_steps(tmp_path)
        # Wait into the next few steps: then half of all kills hit during or next to a save.
        while process.poll() is None and read_steps(tmp_path) < done + 1:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.15))
        if kill(tmp_path, process):
            kills += 1
        else:
            assert process.returncode == 0, (tmp_path / "output").read_text()[-3000:]
            assert_same_run(tmp_path, undisturbed)
            shutil.rmtree(tmp_path / "run")
    assert begin(generator.choice(TOPOLOGIES), generator.choice(STORAGES)).wait(timeout=100) == 0
    assert_same_run(tmp_path, undisturbed)


def read_steps(folder):
    """Number of complete records in metrics.jsonl so far."""
    metrics = folder / "run" / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def test_a_run_continues_on_four_then_one_then_two_processes(tmp_path, undisturbed):
    """T9: a different number of processes at each start, the same bits at the end.

    The first two starts are killed; a signal to one rank of the third stops both ranks at the same step.
    """
    for num_processes, until in ((4, 6), (1, 16)):
        process = start(tmp_path, num_processes)
        wait_for_step(tmp_path, until, process)
        assert kill(tmp_path, process)
    done = read_steps(tmp_path)
    process = start(tmp_path, 2)
    wait_for_step(tmp_path, done + 1, process)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    last = max(int(pid) for pid in workers.stdout.split())
    os.kill(last, signal.SIGUSR1)
    process.wait(timeout=60)
    output = (tmp_path / "output").read_text()
    assert output.count("interrupted after step") == 1
    assert start(tmp_path, 1).wait(timeout=100) == 0
    assert_same_run(tmp_path, undisturbed)
