from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.config import BatchConfig
from lockstep.plan import PADDING, Plan


def make_plan(num_samples=1000, micro=8, window=2, world=4, seed=0):
    batch = BatchConfig(global_size=micro * window * world, micro_size=micro)
    return Plan(seed=seed, num_samples=num_samples, batch=batch, world_size=world)


def steps_of(plan, epoch):
    return range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)


def epoch_ids(plan, epoch):
    return np.stack([plan.step_ids(step) for step in steps_of(plan, epoch)])


@settings(max_examples=150)
@given(
    num_samples=st.integers(1, 3000),
    micro=st.integers(1, 64),
    window=st.integers(1, 4),
    world=st.one_of(st.integers(1, 64), st.sampled_from([128, 1000, 2047, 4096])),
    epoch=st.integers(0, 1000),
)
def test_every_sample_once_an_epoch(num_samples, micro, window, world, epoch):
    plan = make_plan(num_samples, micro, window, world)
    ids = epoch_ids(plan, epoch)
    shares = [ids[:, plan.slots_of(rank)] for rank in range(world)]
    assert all(share.shape == (plan.steps_per_epoch, window, micro) for share in shares)
    seen = np.concatenate([share.ravel() for share in shares])
    assert np.array_equal(np.sort(seen[seen != PADDING]), np.arange(num_samples))
    for step in range(plan.steps_per_epoch):
        assert plan.samples_in_step(epoch * plan.steps_per_epoch + step) == np.sum(ids[step] != PADDING) > 0


@settings(max_examples=50)
@given(st.integers(1, 2000), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 5))
def test_the_global_batch_does_not_depend_on_the_world(num_samples, world, epoch):
    """T12: all ranks of any world shuffle alike."""
    batch = BatchConfig(global_size=64, micro_size=4)
    one = Plan(seed=3, num_samples=num_samples, batch=batch, world_size=1)
    many = Plan(seed=3, num_samples=num_samples, batch=batch, world_size=world)
    steps = steps_of(one, epoch)
    ranks = [many.span_ids(steps, rank) for rank in range(world)]
    assert np.array_equal(np.concatenate(ranks, axis=1), one.span_ids(steps, 0))


@settings(max_examples=50)
@given(st.integers(1, 500), st.integers(0, 40), st.integers(1, 300), st.sampled_from([1, 2, 4]))
def test_spans_hold_the_ids_of_their_steps(num_samples, first_step, max_samples, world):
    plan = make_plan(num_samples=num_samples, window=8 // world, world=world)
    for rank in range(world):
        step = first_step
        for span in islice(plan.spans(first_step, max_samples), 5):
            assert span.start == step
            assert len({plan.epoch_and_offset(step)[0] for step in span}) == 1
            assert len(span) == 1 or len(span) * plan.window * plan.batch.micro_size <= max_samples
            for ids, step in zip(plan.span_ids(span, rank), span, strict=True):
                assert np.array_equal(ids, plan.step_ids(step)[plan.slots_of(rank)])
            step = span.stop


def test_sets_beyond_32_bits():
    plan = make_plan(num_samples=2**33 + 1)
    assert plan.samples_in_step(plan.steps_per_epoch - 1) == 1
    last = plan.step_ids(plan.steps_per_epoch - 1).ravel()
    assert 0 <= last[0] <= 2**33
    assert set(last[1:].tolist()) == {PADDING}
    assert (plan.step_ids(0) >= 2**32).any()


def test_steps_and_samples():
    plan = make_plan(num_samples=130)  # global batch 64: two full steps and one of two samples
    assert plan.steps_per_epoch == 3
    assert [plan.samples_in_step(step) for step in range(4)] == [64, 64, 2, 64]
    assert [plan.samples_seen(steps) for steps in range(5)] == [0, 64, 128, 130, 194]
    assert plan.epoch_and_offset(7) == (2, 1)


def test_held_out_samples_depend_on_the_seed_alone_and_are_in_no_step():
    def ids(seed, world_size):
        plan = Plan(
            seed=seed,
            num_samples=900,
            num_held_out=100,
            batch=BatchConfig(global_size=64, micro_size=16),
            world_size=world_size,
        )
        steps = range(plan.steps_per_epoch)
        trained = np.concatenate([plan.step_ids(step).ravel() for step in steps])
        return trained[trained >= 0], plan.held_out_ids()

    trained, held_out = ids(seed=3, world_size=1)
    assert sorted([*trained, *held_out]) == list(range(1000))
    assert len(held_out) == 100
    assert np.array_equal(held_out, np.sort(held_out))
    assert np.array_equal(held_out, ids(seed=3, world_size=4)[1])
    assert len(set(held_out) & set(ids(seed=4, world_size=1)[1])) < 30  # 10 expected by chance
