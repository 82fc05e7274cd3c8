"""A run on torch's meta device, which computes nothing, and what its steps would ask of a GPU."""

from __future__ import annotations

import collections
import contextlib
import importlib
import traceback
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lockstep.engine import Reduction, ShardedReduction
from lockstep.launch.ranks.node_groups import make_node_groups
from lockstep.launch.ranks.ranks import Ranks
from lockstep.trainer import build_run, find_task, make_parts
from runs import reset_accelerator, small_run

ALLOCATE = ("empty", "new_empty", "_unsafe_view", "_reshape_alias", "detach", "lift_fresh")
"""Operations that launch nothing, besides views."""
OPTIMIZERS = ("optimizer", "adam", "adamw", "sgd")
"""Modules of torch.optim with a list of devices of their own."""


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
            self.kernels[name] += num_launches(name, args)
        return outcome


def num_launches(name, args):
    """One for most; of a list of tensors one for each, if torch has no single kernel for them all.

    It has one for tensors of one dtype, and pairs of equal sizes and strides (ATen/native/ForeachUtils.h).
    """
    lists = [each for each in args if isinstance(each, list | tuple) and each]
    lists = [each for each in lists if isinstance(each[0], torch.Tensor)]
    if not name.startswith("_foreach_") or not lists:
        return 1
    dtypes = {tensor.dtype for tensors in lists for tensor in tensors}
    layouts = [[layout(tensor) for tensor in tensors] for tensors in lists]
    return 1 if len(dtypes) == 1 and all(each == layouts[0] for each in layouts) else len(lists[0])


def layout(tensor):
    """Sizes and strides, without the strides of dimensions of length 1."""
    strides = [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]
    return (*tensor.shape, *strides)


def place():
    """Where Lockstep's code is now."""
    frames = [each for each in traceback.extract_stack() if "/lockstep/" in each.filename]
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "a test"


@contextlib.contextmanager
def meta_as_a_gpu():
    """Fused optimizers take meta tensors, as they take those of a GPU; Accelerate takes the device."""
    kinds = ["cuda", "meta", "cpu"]
    functions = ("_get_fused_kernels_supported_devices", "_get_foreach_kernels_supported_devices")
    reset_accelerator()
    with pytest.MonkeyPatch.context() as patch:
        for module in (importlib.import_module(f"torch.optim.{name}") for name in OPTIMIZERS):
            for function in functions:
                patch.setattr(module, function, lambda: kinds, raising=False)
        patch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
        patch.delenv("ACCELERATE_USE_CPU")
        yield
    reset_accelerator()


@contextlib.contextmanager
def meta_run(config, world_size=1, per_node=0):
    """A run on the meta device, as rank 0; what the trials find out about its model, they find on a CPU."""
    on_cpu, _ = small_run(config)
    on_cpu.closing.close()
    with meta_as_a_gpu(), contextlib.ExitStack() as closing:
        nodes = None
        if world_size > 1:
            dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
            closing.callback(dist.destroy_process_group)
        if per_node:
            nodes = make_node_groups(0, [each % per_node for each in range(world_size)], timedelta(1))
        ranks = Ranks(
            accelerator=Accelerator(mixed_precision=config.precision),
            rank=0,
            world_size=world_size,
            num_threads=1,
            control=None,
            owns_group=False,
            nodes=nodes,
        )
        assert ranks.device.type == "meta"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lockstep.trainer.build.build.find_traits", lambda *_: (on_cpu.traits, []))
            patch.setattr("lockstep.trainer.parts.parts.describe_data", lambda *_, **__: {})  # reads pixels
            for each in (Reduction, ShardedReduction):  # as on CUDA
                patch.setattr(f"lockstep.trainer.build.build.{each.__name__}", partial(each, packs=True))
            config, task = find_task(config, None)
            run = build_run(config, ranks, make_parts(config, task, ranks))
        closing.enter_context(run.closing)
        run.model.train()
        yield run
