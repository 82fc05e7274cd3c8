import threading
import time
from itertools import islice

import pytest
import torch

from lockstep.config import BatchConfig, DataConfig
from lockstep.data import load_dataset, normalised, resident_spans, windows
from lockstep.data.batches import aligned
from lockstep.plan import Plan

STORE = load_dataset(DataConfig(name="synthetic", num_train=100), seed=0).train


def make_plan(world_size=1):
    """Three full steps and a short one of 4 samples an epoch."""
    batch = BatchConfig(global_size=32, micro_size=8)
    return Plan(seed=3, num_samples=100, batch=batch, world_size=world_size)


def windows_of(plan, rank=0, first_step=0):
    return windows(
        resident_spans(STORE.read, plan, rank, first_step, torch.device("cpu")),
        plan,
        rank,
        first_step,
        prepare=normalised,
    )


def test_nothing_is_padded_and_each_sample_has_its_share_of_the_mean():
    for step, window in enumerate(islice(windows_of(make_plan()), 6)):
        sizes = [4] if step == 3 else [8, 8, 8, 8]
        assert [len(batch.ids) for batch in window] == [len(batch.inputs) for batch in window] == sizes
        assert [batch.slot for batch in window] == list(range(len(sizes)))
        assert [batch.is_last for batch in window] == [False] * (len(sizes) - 1) + [True]
        assert sum(batch.weight * len(batch.ids) for batch in window) == 1


def test_a_rank_may_have_no_samples_at_the_end_of_an_epoch():
    windows = [list(islice(windows_of(make_plan(2), rank), 4)) for rank in range(2)]
    assert [len(window) for window in windows[0]] == [2, 2, 2, 1]
    assert [len(window) for window in windows[1]] == [2, 2, 2, 0]


def test_a_window_is_a_function_of_its_step():
    whole = list(islice(windows_of(make_plan()), 9))
    for first_step in (0, 3, 5):
        for expected, window in zip(whole[first_step:], windows_of(make_plan(), 0, first_step), strict=False):
            for one, other in zip(expected, window, strict=True):
                assert one.step == other.step
                assert torch.equal(one.ids, other.ids)
                assert torch.equal(one.inputs, other.inputs)


def test_ranks_share_the_windows_of_one():
    ranks = [windows_of(make_plan(2), rank) for rank in range(2)]
    for whole, *shares in islice(zip(windows_of(make_plan()), *ranks, strict=True), 5):
        ids = [batch.ids for window in shares for batch in window]
        assert torch.equal(torch.cat(ids), torch.cat([batch.ids for batch in whole]))
        assert [batch.slot for window in shares for batch in window] == [batch.slot for batch in whole]


def test_pixels_become_a_models_input():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(28, 14)[None]
    images = normalised(pixels)
    assert images.shape == (1, 1, 28, 28)
    assert torch.allclose(images[0, 0, 0, :2], torch.tensor([-0.1307, 1 - 0.1307]) / 0.3081)


def test_the_sample_ids_of_the_next_span_are_computed_in_a_thread_while_the_one_before_is_in_use(monkeypatch):
    threads, planned = [], Plan.span_ids
    plan = make_plan()

    def span_ids(plan, steps, rank):
        threads.append(threading.current_thread())
        if steps.start >= 8:
            raise OSError("no third epoch")
        return planned(plan, steps, rank)

    monkeypatch.setattr(Plan, "span_ids", span_ids)
    spans = resident_spans(STORE.read, plan, 0, 0, torch.device("cpu"))
    first = next(spans)
    wait_until(lambda: len(threads) == 2)
    assert threading.current_thread() not in threads
    assert torch.equal(first.ids, torch.from_numpy(planned(plan, range(4), 0)))
    assert torch.equal(next(spans).ids, torch.from_numpy(planned(plan, range(4, 8), 0)))
    with pytest.raises(OSError, match="no third epoch"):
        next(spans)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert condition()


class OnCuda(torch.Tensor):
    """A tensor that says it is on CUDA, whose libraries choose kernels by alignment."""

    is_cuda = True


def test_on_cuda_a_micro_batch_is_copied_unless_it_starts_as_an_allocation_does():
    window = torch.arange(4.0 * 64).as_subclass(OnCuda)
    start = -window.data_ptr() // 4 % 64  # the first number at an address as of CUDA's allocator
    assert aligned(window[start:]).data_ptr() == window[start:].data_ptr()
    assert torch.equal(aligned(window[start + 6 :]), window[start + 6 :])
    assert aligned(window[start + 6 :]).data_ptr() != window[start + 6 :].data_ptr()
