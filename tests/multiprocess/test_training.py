"""Training in real processes under the real launchers."""

import json
import subprocess

import pytest

from processes import (
    BIN,
    QUICK,
    SCRIPT,
    free_port,
    launch_words,
    launched,
    lockstep,
    on_two_ranks,
    read_run,
    run,
    train_quick,
    with_support,
    without_times,
    workers,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("num_processes", [2, 4])
def test_the_loop_matches_a_plain_reference(num_processes):
    result = workers(num_processes, "gradient_worker.py")
    assert result.returncode == 0, result.stderr[-4000:]
    for rank in range(num_processes):
        assert f"rank {rank} of {num_processes} passed" in result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """That of the quick run on one process."""
    return tmp_path_factory.mktemp("alone") / "run"


@pytest.fixture(scope="module")
def alone(folder):
    return train_quick(folder.parent, folder.name)


def test_records_are_those_of_one_process_and_lines_of_ranks_do_not_interleave(tmp_path, alone):
    result = launched(4, *QUICK, "--run.dir", str(tmp_path), "--run.name", "run")
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("lockstep: ") for line in result.stdout.splitlines())
    assert result.stdout.count("step 6/6") == 2  # training and test, from the main rank only
    many = read_run(tmp_path / "run")
    assert many["world_size"] == 4
    assert many["steps"] == alone["steps"] == 6
    assert many["samples_seen"] == alone["samples_seen"] == 1200
    for one, other in zip(many["records"], alone["records"], strict=True):
        assert without_times(one) == without_times(other)
    assert many["weights_sha256"] == alone["weights_sha256"]
    assert many["test_samples"] == alone["test_samples"] == 512
    assert many["test_loss"] == alone["test_loss"]


def launchers():
    port = ["--main_process_port", str(free_port())]
    config = ["--config_file", "configs/accelerate/multi-process.yaml", *port]
    return {
        "script": ([str(BIN / "python"), SCRIPT], 1),
        "accelerate-config": ([str(BIN / "accelerate"), "launch", *config, SCRIPT], 2),
        "torchrun": (
            [str(BIN / "torchrun"), "--nproc_per_node=2", "--standalone", SCRIPT],
            2,
        ),
    }


@pytest.mark.parametrize("launcher", launchers())
def test_every_launcher_gives_the_same_numbers(tmp_path, alone, launcher):
    # In new interpreters: the other runs of these tests, `alone` too, are forks.
    words, world_size = launchers()[launcher]
    result = run([*words, *QUICK, "--run.dir", str(tmp_path), "--run.name", "run"], popen=subprocess.Popen)
    assert result.returncode == 0, result.stderr
    assert f"lockstep: {world_size} x cpu" in result.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["world_size"] == world_size
    assert summary["test_loss"] == alone["test_loss"]
    assert summary["weights_sha256"] == alone["weights_sha256"]


def test_precision_comes_from_the_launcher(tmp_path):
    words = [word if word != "no" else "bf16" for word in launch_words(1)]
    words[words.index("--dynamo_backend") + 1] = "no"
    model = ["--model.name", "mlp"]  # convolutions in bf16 are slow on a CPU
    result = run([*words, SCRIPT, *QUICK, *model, "--run.dir", str(tmp_path), "--run.name", "run"])
    assert result.returncode == 0, result.stderr
    assert "precision bf16" in result.stdout
    assert "precision: bf16" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_launch_of_two_that_starts_one_is_an_error(tmp_path):
    """T13: `accelerate launch --cpu --num_processes 2` starts one process, which must not train."""
    words = [str(BIN / "accelerate"), "launch", "--cpu", "--num_processes", "2", SCRIPT]
    result = run([*words, *QUICK, "--run.dir", str(tmp_path)])
    assert result.returncode != 0
    assert "lockstep: error: world size = 1" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_reported_once_by_the_main_rank(tmp_path):
    sizes = ["--batch.global-size", "96", "--batch.micro-size", "32", "--run.dir", str(tmp_path)]
    result = launched(2, *QUICK, *sizes)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("lockstep: error")]
    assert len(lines) == 1
    assert "64 or 128" in lines[0]
    assert 'File "' not in result.stderr.split("lockstep: error")[0]


def test_a_failing_rank_is_named_and_stops_all_promptly(tmp_path):
    arguments = [*QUICK, "--run.dir", str(tmp_path), "--model.name", "user_models:FailsOnRankOne"]
    result = launched(2, *arguments, env=with_support(), timeout=60)
    assert result.returncode != 0
    assert "lockstep: rank 1 failed:" in result.stderr
    assert "boom in the user's model" in result.stderr


def test_evaluate_scores_a_checkpoint_on_any_number_of_ranks(folder, alone):
    result = lockstep("evaluate", str(folder))
    assert result.returncode == 0, result.stderr
    scored = json.loads(result.stdout)
    for name in ("test_accuracy", "test_loss", "weights_sha256", "confusion"):
        assert scored[name] == alone[name]
    checkpoint = folder / "checkpoints" / "step-00000003"
    result = on_two_ranks("evaluate", str(checkpoint))
    assert json.loads(result.stdout)["checkpoint_step"] == 3
    result = lockstep("evaluate", str(checkpoint), "--model.name", "rnn")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "model.name = 'rnn': does not fit the weights of the checkpoint" in result.stderr
