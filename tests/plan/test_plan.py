from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.config import BatchConfig
from lockstep.plan import PADDING, Plan
from lockstep.plan.sample_order import order_slices


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
        assert plan.samples_in_step(epoch * plan.steps_per_epoch + step) == np.sum(ids[step] != PADDING) > 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 5))
def test_the_global_batch_does_not_depend_on_the_world(num_samples, world, epoch):
    """T12: all ranks of any world shuffle alike."""
    batch = BatchConfig(global_size=64, micro_size=4)
    one = Plan(seed=3, num_samples=num_samples, batch=batch, world_size=1).epoch_ids(epoch)
    many = Plan(seed=3, num_samples=num_samples, batch=batch, world_size=world)
    ranks = [many.epoch_ids(epoch)[:, many.slots_of(rank)] for rank in range(world)]
    assert np.array_equal(np.concatenate(ranks, axis=1), one)


def test_the_ids_of_a_step_are_those_in_its_epoch(monkeypatch):
    plan = make_plan(num_samples=130)
    expected = np.concatenate([plan.epoch_ids(0), plan.epoch_ids(1)])
    monkeypatch.setattr("lockstep.plan.plan.order_slices", partial(order_slices, slice_size=50))
    for step, ids in enumerate(expected):  # steps that begin in one slice and end in another
        assert np.array_equal(plan.step_ids(step), ids)


def test_steps_and_samples():
    plan = make_plan(num_samples=130)  # global batch 64: two full steps and one of two samples
    assert plan.steps_per_epoch == 3
    assert [plan.samples_in_step(step) for step in range(4)] == [64, 64, 2, 64]
    assert [plan.samples_seen(steps) for steps in range(5)] == [0, 64, 128, 130, 194]
    assert plan.epoch_and_offset(7) == (2, 1)
