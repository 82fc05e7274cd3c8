"""A user's Dataset as samples: what is accepted, and that each sample and batch draws for itself."""

import random
from contextlib import ExitStack
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset, default_collate

from lockstep.config import BatchConfig
from lockstep.data import describe_data, samples_of
from lockstep.errors import ConfigError
from lockstep.plan import Plan

INPUTS, TARGETS = torch.arange(20.0).reshape(10, 2), torch.arange(10)


class Noisy:
    """Draws from three generators for each sample, and counts what is read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.read.append(index)
        noise = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return {"x": INPUTS[index], "noise": noise}, TARGETS[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


class Indexed:
    """A list of samples as a Dataset."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def make_plan(world_size=1):
    """Two full steps and a short one of 2 samples an epoch."""
    batch = BatchConfig(global_size=4, micro_size=2)
    return Plan(seed=3, num_samples=10, batch=batch, world_size=world_size)


def windows_of(dataset, plan, rank=0, first_step=0, **options):
    samples = samples_of("task.train", dataset, seed=7, **options)
    return samples.windows(plan, rank, first_step, ExitStack())


def assert_same(one, other):
    assert torch.equal(one.ids, other.ids)
    assert torch.equal(one.targets, other.targets)
    for name, value in one.inputs.items():
        assert torch.equal(value, other.inputs[name]), name


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), r"task\.train = 'Stream': is an IterableDataset, which cannot be read by number"),
        (iter([]), r"task\.train = 'list_iterator': must be a Dataset with __len__ and __getitem__"),
        ([], r"task\.train = 'list': has no samples"),
        (Indexed([1.0]), r"task\.train\[0\] = 1\.0: must be a pair \(input, target\)"),
        (Indexed([(1.0, 2, 3)]), r"task\.train\[0\] = 'tuple of 3': must be a pair"),
        (Indexed([torch.ones(2)]), r"task\.train\[0\] = .*: must be a pair"),
    ],
)
def test_what_has_no_pairs_by_number_is_refused(dataset, message):
    with pytest.raises(ConfigError, match=message):
        samples_of("task.train", dataset, seed=0)


class WithoutLength(Indexed):
    def __len__(self):
        raise NotImplementedError("as long as you like")


def test_a_data_set_whose_length_raises_is_refused():
    with pytest.raises(ConfigError, match=r"task\.train: WithoutLength\.__len__ fails \(.*: as long as"):
        samples_of("task.train", WithoutLength([1.0]), seed=0)


def test_two_tensors_are_held_as_they_are():
    samples = samples_of("task.train", TensorDataset(INPUTS, TARGETS), seed=0)
    ids = torch.tensor([[9, 0], [3, 3]])
    inputs, targets = samples.read(ids)
    assert torch.equal(inputs, INPUTS[ids])
    assert torch.equal(targets, TARGETS[ids])
    window = list(islice(samples.windows(make_plan(), 0, 0, ExitStack()), 3))[2]
    assert [len(batch.inputs) for batch in window] == [2]  # nothing is padded
    assert torch.equal(window[0].targets, window[0].ids)
    assert torch.equal(window[0].inputs, INPUTS[window[0].ids])


def test_a_collate_of_the_users_own_is_used_for_two_tensors_too():
    def doubled(samples):
        inputs, targets = default_collate(samples)
        return 2 * inputs, targets

    samples = samples_of("task.test", TensorDataset(INPUTS, TARGETS), seed=0, collate=doubled)
    assert torch.equal(samples.read(torch.arange(3))[0], 2 * INPUTS[:3])


def test_an_epoch_reads_each_sample_once_and_any_step_is_a_function_of_its_number():
    dataset, plan = Noisy(), make_plan()
    windows = windows_of(dataset, plan)
    dataset.read.clear()
    whole = list(islice(windows, 7))
    assert sorted(dataset.read[:10]) == list(range(10))
    for first_step in (2, 3, 5):
        for expected, window in zip(
            whole[first_step:], windows_of(Noisy(), plan, 0, first_step), strict=False
        ):
            for one, other in zip(expected, window, strict=True):
                assert_same(one, other)


def test_what_a_sample_draws_does_not_depend_on_the_rank_and_differs_between_epochs():
    whole = [batch for window in islice(windows_of(Noisy(), make_plan()), 6) for batch in window]
    shares = zip(*(windows_of(Noisy(), make_plan(2), rank) for rank in range(2)), strict=True)
    shared = [batch for windows in islice(shares, 6) for window in windows for batch in window]
    for one, other in zip(whole, shared, strict=True):
        assert one.slot == other.slot
        assert_same(one, other)
    noise = {
        (batch.step // 3, int(number)): row
        for batch in whole
        for number, row in zip(batch.ids, batch.inputs["noise"], strict=True)
    }
    assert len(noise) == 20
    for number in range(10):
        assert (noise[0, number] != noise[1, number]).all()
    assert len({tuple(row.tolist()) for row in noise.values()}) == 20


def test_what_a_collate_draws_is_keyed_by_its_slot():
    def shuffled(samples):
        inputs, targets = default_collate(samples)
        return {**inputs, "draw": torch.rand(3)}, targets

    whole, resumed = (
        list(islice(windows_of(Noisy(), make_plan(), 0, first, collate=shuffled), 3)) for first in (0, 2)
    )
    for one, other in zip(whole[2], resumed[0], strict=True):
        assert_same(one, other)
    assert len({tuple(batch.inputs["draw"].tolist()) for window in whole for batch in window}) == 5


def test_the_digest_is_of_the_samples_and_leaves_the_generators_alone():
    def digest(dataset):
        return describe_data("mine", samples_of("task.train", dataset, seed=0), None)["sha256"]

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one = digest(Noisy())
    assert torch.equal(torch.rand(3), expected)
    assert one == digest(Noisy())
    pairs = [({"a": 1, "b": [2.5, None]}, "yes"), ({"a": 2, "b": [2.5, None]}, "no")]
    other = [pairs[0], ({"a": 2, "b": [2.5, None]}, "maybe")]
    assert digest(Indexed(pairs)) == digest(Indexed(list(pairs))) != digest(Indexed(other))
    targets = TARGETS.clone()
    targets[9] += 1
    assert digest(TensorDataset(INPUTS, TARGETS)) != digest(TensorDataset(INPUTS, targets))
