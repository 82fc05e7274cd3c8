from itertools import islice

import torch

from lockstep.config import BatchConfig, DataConfig
from lockstep.data import load_dataset, normalised, resident_spans, windows
from lockstep.plan import PADDING, Plan

STORE = load_dataset(DataConfig(name="synthetic", num_train=100), seed=0).train


def make_plan(world_size=1):
    """Three full steps and a short one of 4 samples an epoch."""
    batch = BatchConfig(global_size=32, micro_size=8)
    return Plan(seed=3, num_samples=100, batch=batch, world_size=world_size)


def windows_of(plan, rank=0, first_step=0):
    return windows(resident_spans(STORE, plan, rank, first_step), plan, first_step)


def test_weights_make_the_mean_over_the_global_batch():
    for step, window in enumerate(islice(windows_of(make_plan()), 6)):
        weights = torch.cat([batch.weights for batch in window])
        ids = torch.cat([batch.ids for batch in window])
        assert weights.sum() == 1
        assert torch.equal(weights == 0, ids == PADDING)
        assert (ids >= 0).sum() == (4 if step == 3 else 32)


def test_a_window_is_a_function_of_its_step():
    whole = list(islice(windows_of(make_plan()), 9))
    for first_step in (0, 3, 5):
        for expected, window in zip(whole[first_step:], windows_of(make_plan(), 0, first_step), strict=False):
            for one, other in zip(expected, window, strict=True):
                assert one.step == other.step
                assert torch.equal(one.ids, other.ids)
                assert torch.equal(one.images, other.images)


def test_ranks_share_the_windows_of_one():
    ranks = [windows_of(make_plan(2), rank) for rank in range(2)]
    for whole, *shares in islice(zip(windows_of(make_plan()), *ranks, strict=True), 5):
        ids = [batch.ids for window in shares for batch in window]
        assert torch.equal(torch.cat(ids), torch.cat([batch.ids for batch in whole]))
        assert [batch.is_last for batch in shares[0]] == [False, True]


def test_pixels_become_a_models_input():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(28, 14)[None]
    images = normalised(pixels)
    assert images.shape == (1, 1, 28, 28)
    assert torch.allclose(images[0, 0, 0, :2], torch.tensor([-0.1307, 1 - 0.1307]) / 0.3081)
