"""The same bits on any topology, compared by digests in real processes."""

import pytest

from processes import exact_fingerprints, read_run, train_quick, workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone():
    return exact_fingerprints(1)


@pytest.mark.parametrize(
    ("num_processes", "words"),
    [(2, ()), (4, ()), (4, ("nodes=2", "sharded")), (8, ("nodes=2", "cnn bf16", "cnn-gru fp32 groups"))],
    ids=["2", "4", "2x2 sharded", "2x4"],
)
def test_weights_losses_and_norms_have_the_same_bits(alone, num_processes, words):
    fingerprints = exact_fingerprints(num_processes, *words)
    names = alone.keys() & set(words) or alone.keys()
    assert fingerprints == {name: alone[name] for name in names}


def test_a_sharded_optimizer_gives_the_same_bits_gradients_and_checkpoints(tmp_path):
    result = workers(2, "sharded_worker.py", str(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("passed") == 2


def test_the_compared_runs_differ_from_each_other(alone):
    assert len({entry["weights"] for entry in alone.values()}) == len(alone)
    assert len({entry["records"] for entry in alone.values()}) == len(alone)


def test_fast_reduction_agrees_up_to_rounding_over_fifty_steps(tmp_path):
    arguments = ["--reduction", "fast", "--train.steps", "50", "--optimizer.lr", "0.0005"]
    arguments += ["--model.name", "mlp", "--batch.global-size", "64", "--batch.micro-size", "16"]
    one, two = (train_quick(tmp_path, f"run{number}", number, *arguments) for number in (1, 2))
    assert one["weights_sha256"] != two["weights_sha256"]  # that is why `exact` exists
    losses = [[record["loss"] for record in read_run(tmp_path / f"run{n}")["records"]] for n in (1, 2)]
    assert len(losses[0]) == 50
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
