"""`lockstep explain` and `--train.check-order` on two processes."""

import os
import subprocess
import sys

import pytest

from processes import QUICK, ROOT, free_port, launched, lockstep, on_two_ranks, train_quick, with_support

pytestmark = pytest.mark.slow

STEP = ["--step", "5", "--batch.global-size", "64", "--batch.micro-size", "16", "--model.name", "rnn"]


def explanation(result):
    """The printed sections, each as lines: order, table and facts."""
    assert result.returncode == 0, result.stderr
    title, *parts = result.stdout.strip().split("\n\n")
    assert title.startswith("step 5 of 20 | ")
    return [part.splitlines() for part in parts]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_exact_reduction_has_the_same_explanation_on_one_and_two_ranks(precision):
    words = ["explain", *QUICK, *STEP, "--precision", precision, "--optimizer.max-grad-norm", "0.5"]
    alone, both = explanation(lockstep(*words)), explanation(on_two_ranks(*words))
    assert "(forward → loss → backward) x 4" in alone[0][1]
    assert both[0][1:] == [
        "  ranks 0, 1: zero_grad → (forward → loss → backward) x 2 → gradient sum → clip → schedule → "
        "optimizer step",
        "    checked: in the expected order",
    ]
    assert both[1:] == alone[1:]


def test_fast_reduction_sums_inside_the_last_backward():
    words = ["explain", *QUICK, *STEP, "--reduction", "fast", "--optimizer.name", "sgd"]
    order, table, *_ = explanation(on_two_ranks(*words))
    assert order[2] == "    checked: in the expected order"
    assert len(table) == 1 + 6
    assert all(line.endswith("same bits  updated") for line in table[1:])


def test_an_explained_run_is_freed_before_the_process_exits():
    """A run holds process groups; a gloo thread that still runs when the process exits aborts it.

    New interpreters, started by hand: a launcher would be a third one.
    """
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(free_port()), **with_support()}
    words = [sys.executable, str(ROOT / "tests" / "multiprocess" / "explain_worker.py")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    ranks = [
        subprocess.Popen(
            words, env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}, text=True, **pipes
        )
        for rank in "01"
    ]
    try:
        for rank in ranks:
            output, errors = rank.communicate(timeout=120)
            assert (rank.returncode, output.split()) == (0, ["0"]), errors[-3000:]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def test_checking_the_order_of_fast_reduction_changes_no_bit(tmp_path):
    words = ["--reduction", "fast", "--batch.micro-size", "16"]
    plain = train_quick(tmp_path, "plain", 2, *words)
    checked = train_quick(tmp_path, "checked", 2, *words, "--train.check-order")
    assert checked["weights_sha256"] == plain["weights_sha256"]


def test_a_broken_order_stops_every_rank_and_shows_the_trace(tmp_path):
    words = ["--model.name", "user_models:ForwardsTwice", "--train.check-order", "--run.dir", str(tmp_path)]
    result = launched(2, *QUICK, *words, env=with_support())
    assert result.returncode != 0
    assert "step 1 on rank 1 breaks the order: event 3: expected loss[0], got forward[0]" in result.stderr
