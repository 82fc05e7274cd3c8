import math

import pytest

from lockstep.inspect.replay import compare_records


@pytest.mark.parametrize(
    ("computed", "recorded", "is_equal"),
    [
        (0.5, 0.5, True),
        (0.5, 0.5 + 2**-53, False),
        (math.nan, 0.5, False),
        (0.5, math.nan, False),
        (math.nan, math.nan, True),
        (None, None, True),
        (None, 0.5, False),
    ],
)
def test_numbers_are_compared_bit_for_bit_and_nan_equals_only_itself(computed, recorded, is_equal):
    num_compared, divergence = compare_records({"step": 3, "loss": computed}, {"loss": recorded, "epoch": 1})
    assert num_compared == 1
    assert (divergence == "") == is_equal
    assert is_equal or divergence.startswith("step 3: loss ")
