"""Steps on torch's meta device, which computes nothing: what a GPU would be asked to do, against a budget.

A wait for the device, such as `.item()`, fails by its place. A change that needs more kernels raises the
budget here on purpose. cuDNN's recurrent layers are single kernels on a GPU and many here, and the meta
device has no autocast, so both are left out; of fp16, the casts alone.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from image_files import synthetic_files
from lockstep.config import AugmentConfig, BatchConfig, ModelConfig, OptimizerConfig, TrainConfig
from lockstep.engine import agreed_digest, step_record, take_step
from lockstep.engine.checks.finite_check import FiniteCheck
from meta_run import DeviceWaits, Launches, meta_run
from runs import scale_losses, small_config

counts_as_measured = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 15),
    reason="the budgets are of torch 2.15; older ones launch an operation more for each micro-batch",
)


def settings(micro_size=64, model="cnn", global_size=64, dropout=0.0, args=None, **changes):
    batch = BatchConfig(global_size=global_size, micro_size=micro_size)
    network = ModelConfig(name=model, dropout=dropout, args=args or {})
    return small_config(batch=batch, model=network, **changes)


AUGMENTED = AugmentConfig(shift_pixels=2, rotate_degrees=5, cutout_pixels=4)
CLIPPED = OptimizerConfig(name="adamw", max_grad_norm=1.0)
SHARDED = OptimizerConfig(sharded=True)
SHARDED_EXACT = {"alltoall_base_": 3, "_allgather_base_": 1, "allreduce_": 1}
EXACT, FAST = {"alltoall_base_": 1, "_allgather_base_": 1}, {"allreduce_": 1}


@counts_as_measured
@pytest.mark.parametrize(
    ("config", "world_size", "max_kernels", "collectives"),
    [
        pytest.param(settings(), 1, 42, {}, id="cnn 1x64"),
        pytest.param(settings(8), 1, 275, {}, id="cnn 8x8"),
        pytest.param(settings(8, "mlp"), 1, 219, {}, id="mlp 8x8"),
        pytest.param(settings(model="cnn-strided", optimizer=CLIPPED), 1, 59, {}, id="clipped, with buffers"),
        pytest.param(settings(8, "cnn-strided"), 1, 301, {}, id="buffers 8x8"),
        pytest.param(settings(8, "cnn-deep", args={"width": 8}), 1, 491, {}, id="cnn-deep 8x8"),
        pytest.param(settings(8, augment=AUGMENTED), 1, 310, {}, id="augmented"),
        pytest.param(settings(8, dropout=0.25), 1, 307, {}, id="dropout"),
        pytest.param(settings(8, reduction="fast"), 1, 275, {}, id="fast"),
        pytest.param(settings(8), 8, 45, EXACT, id="8 ranks"),
        pytest.param(settings(8, reduction="fast"), 8, 42, FAST, id="8 ranks, fast"),
        pytest.param(settings(8, optimizer=SHARDED), 8, 50, SHARDED_EXACT, id="8 ranks, sharded"),
        pytest.param(settings(1, global_size=4096), 4096, 53, EXACT, id="4096 ranks"),
    ],
)
def test_a_step_waits_for_nothing_and_launches_no_more_than_its_budget(
    config, world_size, max_kernels, collectives
):
    with meta_run(config, world_size) as run:
        take_step(run)  # makes the optimizer's state
        with Launches() as step:
            take_step(run, is_logged=False)
    assert step.copies == (world_size == 4096)  # of each epoch's sample ids: there it is a step
    assert dict(step.collectives) == collectives
    assert sum(step.kernels.values()) <= max_kernels, step.kernels


@counts_as_measured
def test_a_streamed_step_launches_what_a_resident_one_does_but_for_the_gathering(tmp_path):
    """Images and labels come once for a span of many steps, and nothing waits for them on the device."""
    with meta_run(settings(8, data=synthetic_files(tmp_path))) as run:
        with Launches() as first:
            take_step(run)
        with Launches() as step:
            take_step(run)
    assert (first.copies, step.copies) == (3, 0)  # ids, images and labels
    assert sum(step.kernels.values()) <= 273, step.kernels


def test_between_nodes_a_rank_exchanges_with_one_rank_of_each_other_node():
    """64 ranks: 8 nodes of 8. In one level each of both collectives reaches 56 ranks on other nodes."""
    for per_node, peers in ((0, [63, 63]), (8, [7, 7, 7, 7])):  # within the node, across, across, within
        with meta_run(settings(1), 64, per_node) as run:
            take_step(run)
            with Launches() as step:
                take_step(run)
        assert step.peers == peers
        assert sum(step.kernels.values()) <= 62


def test_a_wait_for_the_device_fails_by_its_place():
    with meta_run(settings()) as run:
        loss = run.task.loss
        run.task = replace(
            run.task, loss=lambda outputs, targets: loss(outputs, targets) * outputs.sum().item()
        )
        with (
            pytest.raises(DeviceWaits, match=r"_local_scalar_dense waits for the device, at task.py:\d+"),
            Launches(),
        ):
            take_step(run)


@counts_as_measured
def test_a_record_a_digest_and_an_epochs_start_cost_what_they_may():
    with meta_run(settings()) as run:
        with Launches() as first:
            take_step(run)
        assert first.copies == 1  # the epoch's sample ids
        with Launches() as logged:
            result = take_step(run, is_logged=True)
        assert sum(logged.kernels.values()) <= 58
        with Launches(may_wait=True) as record:
            step_record(run, result)
        assert record.waits == {"ranks.py": 1}
        with Launches(may_wait=True) as digest:
            agreed_digest(run.model, run.ranks, run.step)
        assert digest.waits == {"ranks.py": 1}
        assert sum(digest.kernels.values()) <= 50
        check = FiniteCheck(allows_overflow=False)
        for step in (1, 2):
            check.add(step, result.losses, result.grad_norm)
        with Launches(may_wait=True) as finite:
            assert check.check(run.ranks) is None
        assert finite.waits == {"ranks.py": 1}


@counts_as_measured
@pytest.mark.parametrize(
    ("config", "world_size", "max_kernels", "collectives"),
    [
        pytest.param(settings(), 1, 57, {}, id="adam"),
        pytest.param(settings(train=TrainConfig(ema=0.99)), 1, 82, {}, id="with averages"),
        pytest.param(settings(optimizer=OptimizerConfig(name="sgd")), 1, 55, {}, id="sgd"),
        pytest.param(settings(8, optimizer=SHARDED), 8, 65, {**SHARDED_EXACT, "allreduce_": 2}, id="sharded"),
    ],
)
def test_in_fp16_a_step_waits_for_no_overflow(config, world_size, max_kernels, collectives):
    """A record reads what was skipped and the rates of its step in one copy, and the scale."""
    with meta_run(config, world_size) as run:
        with Launches(may_wait=True):
            take_step(run)  # the first update would wait
            scale_losses(run, torch.amp.GradScaler("meta"))
            take_step(run)  # puts the rates on the device
        with Launches() as step:
            take_step(run)
        with Launches():
            result = take_step(run, is_logged=True)
        assert step.copies == 0
        assert dict(step.collectives) == collectives
        assert sum(step.kernels.values()) <= max_kernels, step.kernels
        with Launches(may_wait=True) as record:
            step_record(run, result)
        assert record.waits == {"ranks.py": 1, "skipped_steps.py": 1, "records.py": 1}
