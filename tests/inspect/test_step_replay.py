from pathlib import Path

import pytest

from lockstep.inspect.step_replay import Replay, compare_records


@pytest.mark.parametrize(
    ("computed", "recorded", "is_equal"),
    [
        (0.5, 0.5, True),
        (0.5, 0.5 + 2**-53, False),
        (None, None, True),
        (None, 0.5, False),
    ],
)
def test_numbers_are_compared_bit_for_bit(computed, recorded, is_equal):
    num_compared, divergence = compare_records(
        {"step": 3, "loss": computed}, {"loss": recorded, "epoch": 1}, metrics=()
    )
    assert num_compared == 1
    assert (divergence == "") == is_equal
    assert is_equal or divergence.startswith("step 3: loss ")


def test_the_metrics_of_the_task_are_compared_too():
    computed = {"step": 3, "loss": 0.5, "f1": 0.25, "accuracy": 0.75}
    recorded = {"loss": 0.5, "f1": 0.5, "accuracy": 0.5, "grad_norm_of_old_runs": 1.0}
    assert compare_records(computed, recorded, metrics=["f1"]) == (2, "step 3: f1 0.5 → 0.25")


def test_a_replay_before_the_first_logged_step_says_that_nothing_was_compared():
    replay = Replay(
        step=3,
        first_step=0,
        num_compared=0,
        divergence="",
        environment_changes="",
        written=[Path("step.json")],
        non_finite="",
    )
    assert replay.lines() == [
        "recomputed to step 3 from the initial weights; no step up to it was logged, so there is nothing to "
        "compare with",
        "wrote step.json",
    ]
