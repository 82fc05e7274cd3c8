import pytest

from lockstep.inspect.step_replay import compare_records


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
