"""Users' models: the same bits on any topology, over kills and resumes, and from the same command twice."""

import json

import pytest

from interruption import kill as kill_run
from interruption import start, wait_for_step
from processes import any_model_fingerprints, lockstep, read_run, train_quick, with_support

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def alone():
    return any_model_fingerprints(1, "exact")


@pytest.mark.parametrize("launch", [(2,), (4, "sharded")], ids=["2", "4 sharded"])
def test_any_model_has_the_same_bits_on_any_topology(alone, launch):
    """A sharded run sums as one that is not, and then updates only its part."""
    num_processes, *more = launch
    assert any_model_fingerprints(num_processes, "exact", *more) == alone


def test_fast_reduction_repeats_its_bits_on_the_same_topology():
    words = ("fast", "OddSizes", "Transformer", "Resnet")
    assert any_model_fingerprints(2, *words) == any_model_fingerprints(2, *words)


def test_a_killed_run_continues_on_other_topologies_with_the_same_bits(tmp_path):
    words = ["--model.name", "any_models:Transformer", "--model.dropout", "0", "--train.epochs", "6"]
    words += ["--data.num-train", "300", "--batch.global-size", "128", "--batch.micro-size", "16"]
    environment = with_support()
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert start(undisturbed, 1, *words, env=environment).wait(timeout=100) == 0
    process = start(tmp_path, 4, *words, "--optimizer.sharded", env=environment)
    wait_for_step(tmp_path, 5, process)
    assert kill_run(tmp_path, process)
    assert start(tmp_path, 2, *words, env=environment).wait(timeout=100) == 0
    one, other = read_run(tmp_path / "run"), read_run(undisturbed / "run")
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["test_loss"] == other["test_loss"]


def test_batch_statistics_that_a_run_evaluates_with_are_those_of_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", with_support()["PYTHONPATH"])
    words = ["--model.name", "any_models:SmallBatch", "--batch.micro-size", "32"]
    one, two = (train_quick(tmp_path, f"run{number}", number, *words) for number in (1, 2))
    assert one["weights_sha256"] == two["weights_sha256"]
    scored = json.loads(lockstep("evaluate", str(tmp_path / "run2")).stdout)
    assert scored["test_loss"] == two["test_loss"] == one["test_loss"]
