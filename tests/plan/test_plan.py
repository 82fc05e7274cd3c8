from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.config import BatchConfig
from lockstep.errors import ConfigError
from lockstep.plan import PADDING, Plan, sample_order, window_length
from lockstep.plan.sample_order import order_parts


def make_plan(num_samples=1000, micro=8, window=2, world=4, seed=0):
    batch = BatchConfig(global_size=micro * window * world, micro_size=micro)
    return Plan(seed=seed, num_samples=num_samples, batch=batch, world_size=world)


@settings(max_examples=150, deadline=None)
@given(
    num_samples=st.integers(1, 3000),
    micro=st.integers(1, 64),
    window=st.integers(1, 4),
    world=st.one_of(st.integers(1, 64), st.sampled_from([128, 1000, 2047, 4096])),
    epoch=st.integers(0, 1000),
)
def test_every_sample_once_an_epoch(num_samples, micro, window, world, epoch):
    plan = make_plan(num_samples, micro, window, world)
    ids = plan.epoch_ids(epoch)
    shares = [ids[:, plan.slots_of(rank)] for rank in range(world)]
    assert all(share.shape == (plan.steps_per_epoch, window, micro) for share in shares)
    seen = np.concatenate([share.ravel() for share in shares])
    assert np.array_equal(np.sort(seen[seen != PADDING]), np.arange(num_samples))
    for step in range(plan.steps_per_epoch):
        assert plan.num_real(epoch * plan.steps_per_epoch + step) == np.sum(ids[step] != PADDING) > 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 5))
def test_the_global_batch_does_not_depend_on_the_world(num_samples, world, epoch):
    """T12: all ranks of any world shuffle alike."""
    batch = BatchConfig(global_size=64, micro_size=4)
    one = Plan(seed=3, num_samples=num_samples, batch=batch, world_size=1).epoch_ids(epoch)
    many = Plan(seed=3, num_samples=num_samples, batch=batch, world_size=world)
    ranks = [many.epoch_ids(epoch)[:, many.slots_of(rank)] for rank in range(world)]
    assert np.array_equal(np.concatenate(ranks, axis=1), one)


def test_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(sample_order(1, 2, 500), sample_order(1, 2, 500))
    assert not np.array_equal(sample_order(1, 2, 500), sample_order(1, 3, 500))
    assert not np.array_equal(sample_order(1, 2, 500), sample_order(2, 2, 500))


@pytest.mark.parametrize("sorted_together", [1000, 300, 7])
def test_order_is_the_same_in_parts(sorted_together):
    parts = list(order_parts(1, 2, 1000, sorted_together))
    assert len(parts) == -(-1000 // sorted_together)
    assert np.array_equal(np.concatenate(parts), sample_order(1, 2, 1000))


def test_the_ids_of_a_step_are_those_in_its_epoch(monkeypatch):
    plan = make_plan(num_samples=130)
    expected = np.concatenate([plan.epoch_ids(0), plan.epoch_ids(1)])
    monkeypatch.setattr("lockstep.plan.plan.order_parts", partial(order_parts, sorted_together=50))
    for step, ids in enumerate(expected):  # steps that begin in one part and end in another
        assert np.array_equal(plan.step_ids(step), ids)


def test_order_is_pinned():
    # A changed order would silently turn every resumed run into another one.
    assert sample_order(0, 0, 10).tolist() == [8, 4, 2, 0, 5, 1, 7, 6, 3, 9]
    assert sample_order(2**40 + 7, 5, 10).tolist() == [9, 0, 1, 5, 8, 7, 2, 4, 3, 6]


def test_all_places_of_the_order_are_equally_likely():
    counts = np.zeros((8, 8))
    for epoch in range(2000):
        counts[np.arange(8), sample_order(0, epoch, 8)] += 1
    chi_square = ((counts - 250) ** 2 / 250).sum()
    assert chi_square < 86  # 49 degrees of freedom, p = 0.001


def test_steps_and_samples():
    plan = make_plan(num_samples=130)  # global batch 64: two full steps and one of two samples
    assert plan.steps_per_epoch == 3
    assert [plan.num_real(step) for step in range(4)] == [64, 64, 2, 64]
    assert [plan.samples_seen(steps) for steps in range(5)] == [0, 64, 128, 130, 194]
    assert plan.epoch_and_offset(7) == (2, 1)


def test_sizes_that_do_not_divide_are_refused_with_some_that_do():
    with pytest.raises(ConfigError, match=r"batch\.global_size = 96") as refusal:
        window_length(BatchConfig(global_size=96, micro_size=32), world_size=2, exact=False)
    message = str(refusal.value)
    assert "64 or 128" in message
    assert "batch.micro_size 24" in message
    for micro, size in ((32, 64), (32, 128), (24, 96)):
        window_length(BatchConfig(global_size=size, micro_size=micro), world_size=2, exact=False)
