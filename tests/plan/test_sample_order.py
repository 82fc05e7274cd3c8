import numpy as np
import pytest

from lockstep.plan import sample_order
from lockstep.plan.sample_order import order_slices


def test_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(sample_order(1, 2, 500), sample_order(1, 2, 500))
    assert not np.array_equal(sample_order(1, 2, 500), sample_order(1, 3, 500))
    assert not np.array_equal(sample_order(1, 2, 500), sample_order(2, 2, 500))


@pytest.mark.parametrize("slice_size", [1000, 300, 7])
def test_order_is_the_same_in_slices(slice_size):
    slices = list(order_slices(1, 2, 1000, slice_size))
    assert len(slices) == -(-1000 // slice_size)
    assert np.array_equal(np.concatenate(slices), sample_order(1, 2, 1000))


def test_order_is_pinned():
    # A changed order would silently turn every resumed run into another one.
    assert sample_order(0, 0, 10).tolist() == [8, 4, 2, 0, 5, 1, 7, 6, 3, 9]
    assert sample_order(2**40 + 7, 5, 10).tolist() == [9, 0, 1, 5, 8, 7, 2, 4, 3, 6]


def test_all_positions_in_the_order_are_equally_likely():
    counts = np.zeros((8, 8))
    for epoch in range(2000):
        counts[np.arange(8), sample_order(0, epoch, 8)] += 1
    chi_square = ((counts - 250) ** 2 / 250).sum()
    assert chi_square < 86  # 49 degrees of freedom, p = 0.001
