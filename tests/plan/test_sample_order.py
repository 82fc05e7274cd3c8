import subprocess
import sys
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.plan.sample_order import SampleOrder, sample_order


def whole(seed, epoch, num_samples):
    return sample_order(seed, epoch, num_samples)[np.arange(num_samples)]


def chi_square(counts):
    expected = np.sum(counts) / np.size(counts)
    return ((counts - expected) ** 2 / expected).sum()


@settings(max_examples=200)
@given(st.integers(1, 5000), st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
def test_every_sample_has_one_position(num_samples, seed, epoch):
    assert np.array_equal(np.sort(whole(seed, epoch, num_samples)), np.arange(num_samples))


@pytest.mark.parametrize("num_samples", [*range(1, 40), 63, 64, 65, 60_000, 2**16 + 1])
def test_every_sample_has_one_position_where_the_square_grows(num_samples):
    assert np.array_equal(np.sort(whole(3, 1, num_samples)), np.arange(num_samples))


@pytest.mark.parametrize("num_samples", [10**9, 2**32, 2**32 + 1, 2**40 + 7, 2**48])
def test_a_set_of_any_size_is_spread_evenly(num_samples):
    order = sample_order(7, 2, num_samples)
    for start in (0, num_samples - 16_000):
        ids = order[np.arange(start, start + 16_000)]
        assert len(set(ids.tolist())) == 16_000
        assert ids.min() >= 0
        assert ids.max() < num_samples
        assert chi_square(np.bincount(ids * 16 // num_samples, minlength=16)) < 37.7  # 15 degrees, p = 0.001
        assert chi_square(np.bincount(ids % 16, minlength=16)) < 37.7
        assert abs(np.corrcoef(ids[1:], ids[:-1])[0, 1]) < 3.3 / 16_000**0.5


def test_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(SampleOrder(1, 2, 500)[np.arange(500)], whole(1, 2, 500))
    assert not np.array_equal(whole(1, 2, 500), whole(1, 3, 500))
    assert not np.array_equal(whole(1, 2, 500), whole(2, 2, 500))
    assert not np.array_equal(whole(1, 2, 500), whole(1 + 2**40, 2, 500))


@given(st.integers(1, 3000), st.data())
def test_a_position_does_not_depend_on_what_else_is_asked_for(num_samples, data):
    positions = np.array(data.draw(st.lists(st.integers(0, num_samples - 1), min_size=1, max_size=6)))
    expected = whole(1, 2, num_samples)[positions]
    assert np.array_equal(SampleOrder(1, 2, num_samples)[positions], expected)
    assert np.array_equal(SampleOrder(1, 2, num_samples)[positions[None, :, None]], expected[None, :, None])


@pytest.mark.parametrize("num_samples", [1, 5, 1000, 70_000])
def test_looking_up_the_round_functions_changes_nothing(monkeypatch, num_samples):
    positions = np.arange(min(num_samples, 2000))
    looked_up = SampleOrder(4, 1, num_samples)[positions]
    monkeypatch.setattr("lockstep.plan.sample_order.MAX_TABLE_SIDE", 0)
    assert np.array_equal(SampleOrder(4, 1, num_samples)[positions], looked_up)


def test_order_is_pinned():
    # A changed order would silently turn every resumed run into another one.
    assert whole(0, 0, 10).tolist() == [8, 4, 0, 2, 6, 9, 7, 5, 1, 3]
    assert whole(2**40 + 7, 5, 10).tolist() == [7, 4, 2, 6, 3, 8, 5, 1, 0, 9]
    start = np.arange(4)
    assert sample_order(1, 2, 60_000)[start].tolist() == [47542, 38191, 58149, 54472]
    assert sample_order(1, 2, 10**9)[start].tolist() == [332093771, 359054899, 259312757, 170871395]
    assert sample_order(1, 2, 2**48 - 5)[start].tolist() == [
        79786396520680,
        130973176851101,
        137781951929074,
        28863543572528,
    ]


# The upper ends have p = 0.001, for as many degrees of freedom as there are permutations, less one.
@pytest.mark.parametrize(("num_samples", "bound"), [(2, 10.8), (3, 20.5), (4, 49.7), (5, 171.6)])
def test_all_orders_of_a_small_set_are_equally_likely(num_samples, bound):
    numbers = {order: number for number, order in enumerate(permutations(range(num_samples)))}
    counts = np.zeros(factorial(num_samples))
    for epoch in range(max(600, 20 * len(counts))):
        counts[numbers[tuple(SampleOrder(5, epoch, num_samples)[np.arange(num_samples)].tolist())]] += 1
    assert chi_square(counts) < bound


@pytest.mark.parametrize("num_samples", [6, 9, 12, 16])
def test_small_sets_are_uniform_in_positions_and_parity(num_samples):
    orders = np.stack([SampleOrder(6, epoch, num_samples)[np.arange(num_samples)] for epoch in range(2000)])
    for column in orders.T:
        counts = np.bincount(column, minlength=num_samples)
        assert chi_square(counts) < num_samples - 1 + 5 * (2 * (num_samples - 1)) ** 0.5
    earlier, later = np.triu_indices(num_samples, 1)
    is_odd = (orders[:, earlier] > orders[:, later]).sum(axis=1) % 2
    assert abs(is_odd.mean() - 0.5) < 3.3 * 0.5 / 2000**0.5


@pytest.mark.parametrize("num_samples", [100, 1000, 4097])
def test_an_order_looks_random(num_samples):
    """Means over epochs lie within 3.3 standard errors of those of a uniform permutation."""
    epochs, places = 400, np.arange(num_samples)
    orders = np.stack([SampleOrder(8, epoch, num_samples)[places] for epoch in range(epochs)])
    tolerance = 3.3 / epochs**0.5

    fixed_points = (orders == places).sum(axis=1)
    assert abs(fixed_points.mean() - 1) < tolerance
    neighbours = (abs(np.diff(orders, axis=1)) == 1).sum(axis=1)  # a Poisson variable of mean 2
    assert abs(neighbours.mean() - 2 * (num_samples - 1) / num_samples) < tolerance * 2**0.5
    displacement = abs(orders - places).mean(axis=1)
    assert (
        abs(displacement.mean() - (num_samples**2 - 1) / (3 * num_samples)) < tolerance * displacement.std()
    )
    centred = orders - places.mean()
    serial = (centred[:, 1:] * centred[:, :-1]).mean(axis=1) / centred.var(axis=1)
    assert abs(serial.mean() + 1 / (num_samples - 1)) < tolerance * serial.std()
    assert 0.85 < serial.std() * num_samples**0.5 < 1.15
    first = np.bincount(orders[:, 0] * 20 // num_samples, minlength=20)
    assert chi_square(first) < 43.8  # 19 degrees of freedom


FIRST_BATCH = """
import resource, time
from lockstep.config import BatchConfig
from lockstep.plan import Plan

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before, start = peak_bytes(), time.perf_counter()
plan = Plan(seed=0, num_samples=10**9, batch=BatchConfig(global_size=4096, micro_size=32), world_size=4)
plan.step_ids(0)
plan.span_ids(next(plan.spans(0, 2**16)), 3)
print(time.perf_counter() - start, peak_bytes() - before)
"""


def test_a_billion_samples_cost_neither_time_nor_memory():
    output = subprocess.run([sys.executable, "-c", FIRST_BATCH], capture_output=True, text=True, check=True)
    seconds, peak = map(float, output.stdout.split())
    assert seconds < 1
    assert peak < 100e6
