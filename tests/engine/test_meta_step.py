"""Steps on torch's meta device, which computes nothing: what a GPU would be asked to do, against a budget.

A wait for the device, such as `.item()`, fails by its place. A change that needs more kernels raises the
budget here on purpose. cuDNN's recurrent layers are single kernels on a GPU and many here, and the meta
device has no autocast, so both are left out; of fp16, the casts alone.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import traceback
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lockstep.config import AugmentConfig, BatchConfig, ModelConfig, OptimizerConfig, TrainConfig
from lockstep.engine import Reduction, ShardedReduction, agreed_digest, step_record, take_step
from lockstep.engine.checks.finite_check import FiniteCheck
from lockstep.launch.ranks.node_groups import make_node_groups
from lockstep.launch.ranks.ranks import Ranks
from lockstep.trainer import build_run, find_task, make_parts
from runs import reset_accelerator, scale_losses, small_config, small_run

counts_as_measured = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 15),
    reason="the budgets are of torch 2.15; older ones launch an operation more for each micro-batch",
)

ALLOCATE = ("empty", "new_empty", "_unsafe_view", "_reshape_alias", "detach", "lift_fresh")
"""Operations that launch nothing, besides views."""


class DeviceWaits(AssertionError):
    """A step needs an answer from the device."""


class Launches(TorchDispatchMode):
    """Counts what a GPU would be asked to do; an answer that is waited for is an error, or counted too."""

    def __init__(self, may_wait=False):
        super().__init__()
        self.may_wait, self.waits, self.copies = may_wait, collections.Counter(), 0
        self.kernels, self.collectives = collections.Counter(), collections.Counter()
        self.peers = []  # how many other ranks each collective reaches

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        on_device = any(tensor.is_meta for tensor in tensors)
        target = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else "meta"
        to_host = name == "_to_copy" and on_device and target == "cpu"
        to_host = to_host or (name == "copy_" and tensors[1].is_meta and not tensors[0].is_meta)
        masks = name == "index" and any(each.dtype == torch.bool for each in tensors[1:])
        if on_device and (to_host or masks or name in ("_local_scalar_dense", "nonzero", "masked_select")):
            if not self.may_wait:
                raise DeviceWaits(f"{name} waits for the device, at {place()}")
            self.waits[place().partition(":")[0]] += 1
            if name == "_local_scalar_dense":
                return True if args[0].dtype == torch.bool else args[0].dtype.is_floating_point + 0.0
            assert to_host
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        # Some forms of a fused update return nothing here, as they have no form for the meta device.
        outcome = func(*args, **kwargs) if not name.startswith("_fused_") else None
        made = [each for each in pytree.tree_leaves(outcome) if isinstance(each, torch.Tensor)]
        if func.namespace == "c10d":
            self.collectives[name] += 1
            group = next(each for each in args if isinstance(each, torch.ScriptObject))
            self.peers.append(dist.ProcessGroup.unbox(group).size() - 1)
        elif not on_device and any(each.is_meta for each in made):
            self.copies += name == "_to_copy"  # from the host
            if name != "_to_copy" and not name.startswith(ALLOCATE):
                self.kernels[name] += 1
        elif on_device and not func.is_view and not name.startswith(ALLOCATE):
            self.kernels[name] += 1
        return outcome


def place():
    """Where Lockstep's code is now."""
    frames = [each for each in traceback.extract_stack() if "/lockstep/" in each.filename]
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "a test"


@pytest.fixture(autouse=True)
def _meta_is_a_gpu(monkeypatch):
    """Fused optimizers take meta tensors, as they take those of a GPU; Accelerate takes the device."""
    kinds = ["cuda", "meta", "cpu"]
    for module in ("optimizer", "adam", "adamw", "sgd"):
        for function in ("_get_fused_kernels_supported_devices", "_get_foreach_kernels_supported_devices"):
            monkeypatch.setattr(
                importlib.import_module(f"torch.optim.{module}"), function, lambda: kinds, raising=False
            )
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    yield
    reset_accelerator()


@contextlib.contextmanager
def meta_run(config, world_size=1, per_node=0):
    """A run on the meta device, as rank 0; what the trials find out about its model, they find on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ACCELERATE_TORCH_DEVICE")
        patch.setenv("ACCELERATE_USE_CPU", "true")
        traits = small_run(config)[0].traits
    reset_accelerator()
    if world_size > 1:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
    try:
        accelerator = Accelerator(mixed_precision=config.precision)
        ranks = Ranks(
            accelerator=accelerator,
            rank=0,
            world_size=world_size,
            num_threads=1,
            control=None,
            owns_group=False,
            nodes=make_node_groups(0, [each % per_node for each in range(world_size)], timedelta(1))
            if per_node
            else None,
        )
        assert ranks.device.type == "meta"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lockstep.trainer.build.build.find_traits", lambda *_: (traits, []))
            patch.setattr("lockstep.trainer.parts.parts.describe_data", lambda *_, **__: {})  # reads pixels
            for each in (Reduction, ShardedReduction):  # as on CUDA
                patch.setattr(f"lockstep.trainer.build.build.{each.__name__}", partial(each, packs=True))
            config, task = find_task(config, None)
            run = build_run(config, ranks, make_parts(config, task, ranks))
        with run.closing:
            run.model.train()
            yield run
    finally:
        if world_size > 1:
            dist.destroy_process_group()


def settings(micro_size=64, model="cnn", global_size=64, **changes):
    batch = BatchConfig(global_size=global_size, micro_size=micro_size)
    return small_config(batch=batch, model=ModelConfig(name=model), **changes)


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
        pytest.param(settings(model="cnn-strided", optimizer=CLIPPED), 1, 44, {}, id="clipped"),
        pytest.param(settings(8, augment=AUGMENTED), 1, 310, {}, id="augmented"),
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
