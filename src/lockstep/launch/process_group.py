"""Joins the process group and picks the device."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from lockstep.errors import AgreedStop, ConfigError, RankError
from lockstep.launch.machine import keep_freed_memory, num_cores, threads_per_process
from lockstep.launch.precision import check_precision
from lockstep.launch.ranks import Ranks
from lockstep.launch.rendezvous import torchrun_variables
from lockstep.launch.variables import Launch, device_index


@contextmanager
def join_ranks(launch: Launch, precision: str) -> Iterator[Ranks]:
    """Joins the process group for the duration of a with block.

    Leaves the group when all ranks leave the block in the same way: at its end, by a user's mistake, or by a
    stop they agreed on. After any other error it does not: the other ranks may wait in a collective, and
    leaving the group would wait for them. So the process ends, shows its traceback, and its launcher ends the
    others.
    """
    ranks = start_ranks(launch, precision)
    try:
        yield ranks
    except (ConfigError, AgreedStop):
        ranks.close()
        raise
    ranks.close()


def start_ranks(launch: Launch, precision: str) -> Ranks:
    """Joins the process group and picks the device: CUDA, else MPS, else CPU.

    Args:
        launch: what the launcher started.
        precision: 'no', 'bf16' or 'fp16'.

    Raises:
        RankError: the device does not support the precision, or fewer processes met than were launched.
    """
    has_mps = torch.backends.mps.is_available() and launch.world_size == 1  # no backend connects several
    use_cpu = launch.wants_cpu or not (torch.cuda.is_available() or has_mps)
    kind = "cpu" if use_cpu else "cuda" if torch.cuda.is_available() else "mps"
    check_precision(precision, kind)
    if launch.launcher == "srun":
        os.environ.update(torchrun_variables(launch))
        if kind == "cuda":
            os.environ["LOCAL_RANK"] = str(device_index(launch, torch.cuda.device_count()))
    if use_cpu and "OMP_NUM_THREADS" not in os.environ:
        num_threads = threads_per_process(num_cores(), launch.local_world_size)
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
        torch.set_num_threads(num_threads)
    if importlib.util.find_spec("lomo_optim") is None:
        # Accelerate's optimizer looks for this package twice a step, through all of sys.path: 0.4 ms. With
        # this entry the import system knows that it is absent, and answers immediately.
        sys.modules["lomo_optim"] = None  # type: ignore[assignment]
    if use_cpu:
        keep_freed_memory()
    accelerator = Accelerator(cpu=use_cpu, mixed_precision=precision)
    if accelerator.num_processes != launch.world_size:
        raise RankError(
            f"world size = {accelerator.num_processes}: {launch.launcher} was asked for {launch.world_size}; "
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
