"""Joins the process group, picks the device, and settles the precision."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from lockstep.config import Config
from lockstep.errors import AgreedStop, ConfigError, RankError
from lockstep.launch.machine import keep_freed_memory, num_cores
from lockstep.launch.ranks import Ranks
from lockstep.launch.rendezvous import srun_rendezvous
from lockstep.launch.variables import Launch, device_index


@contextmanager
def join_ranks(launch: Launch, precision: str) -> Iterator[Ranks]:
    """The ranks, join_ranks for as long as the block lasts. All ranks leave it in the same way.

    Where one rank failed alone its peers may wait in a collective for ever, and leaving the group would wait
    for them: then the process just ends, its launcher ends the others, and the traceback is not held back.
    """
    ranks = start_ranks(launch, precision)
    try:
        yield ranks
    except (ConfigError, AgreedStop):
        ranks.close()
        raise
    ranks.close()


def resolve_precision(config: Config, launch: Launch) -> Config:
    """The config with the precision that runs: its own, or the launcher's where it says 'auto'.

    Raises:
        RankError: the two name different ones, or the launcher's is none of ours.
    """
    wanted = config.precision
    if wanted == "auto":
        if launch.precision not in ("no", "bf16", "fp16"):
            raise RankError(f"--mixed_precision {launch.precision}: must be no, bf16 or fp16")
        return replace(config, precision=launch.precision)  # type: ignore[arg-type]  # checked above
    if launch.precision not in ("no", wanted):
        raise RankError(
            f"precision = {wanted!r}: the launcher says --mixed_precision {launch.precision}; "
            "state it in one place, or in both the same"
        )
    return config


def start_ranks(launch: Launch, precision: str) -> Ranks:
    """Joins the process group and picks the device: CUDA, else MPS, else CPU.

    Args:
        launch: what the launcher asked for.
        precision: 'no', 'bf16' or 'fp16'.

    Raises:
        RankError: the device cannot do the precision, or the world is not the one that was asked for.
    """
    has_mps = torch.backends.mps.is_available() and launch.world_size == 1  # no backend joins MPS processes
    use_cpu = launch.wants_cpu or not (torch.cuda.is_available() or has_mps)
    kind = "cpu" if use_cpu else "cuda" if torch.cuda.is_available() else "mps"
    check_precision(precision, kind)
    if launch.launcher == "srun":
        os.environ.update(srun_rendezvous())
        if kind == "cuda":
            os.environ["LOCAL_RANK"] = str(device_index(launch, torch.cuda.device_count()))
    # A process that takes every core while its neighbours do the same is over ten times slower.
    if use_cpu and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, num_cores() // launch.local_world_size))
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if importlib.util.find_spec("lomo_optim") is None:
        # Accelerate's optimizer looks for this package twice a step, through all of sys.path: 0.4 ms. An
        # import system that knows it to be absent answers at once.
        sys.modules["lomo_optim"] = None  # type: ignore[assignment]
    if use_cpu:
        keep_freed_memory()
    accelerator = Accelerator(
        cpu=use_cpu,
        mixed_precision=precision,
        # Gradients that are views of the buckets save one copy a step.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if accelerator.num_processes != launch.world_size:
        raise RankError(
            f"world size = {accelerator.num_processes}: {launch.launcher} asked for {launch.world_size}; "
            "start the processes with accelerate launch --multi_gpu, torchrun or srun"
        )
    control: Any = None
    if launch.world_size > 1:
        control = dist.new_group(backend="gloo", timeout=timedelta(hours=1))
    return Ranks(
        accelerator=accelerator,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_threads=torch.get_num_threads(),
        control=control,
    )


def check_precision(precision: str, device_type: str) -> None:
    """Checks that a kind of device, 'cuda' (the current one), 'mps' or 'cpu', does a precision.

    Raises:
        RankError: it does not.
    """
    if precision == "fp16" and device_type != "cuda":
        raise RankError(
            f"precision = 'fp16': needs a CUDA device, and this process has {device_type}; use bf16 or no"
        )
    if (
        precision == "bf16"
        and device_type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise RankError("precision = 'bf16': this GPU cannot do it; use fp16 or no")
