"""Joins the process group and picks the device."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import multiprocessing
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

from lockstep.errors import AgreedStop, ConfigError, RankError
from lockstep.launch.gpus import check_own_gpus
from lockstep.launch.machine import keep_freed_memory, num_cores, threads_per_process
from lockstep.launch.precision import check_precision
from lockstep.launch.ranks import Ranks
from lockstep.launch.rendezvous import rank_variables, torchrun_variables
from lockstep.launch.variables import Launch

PROGRAM = "program"
"""The launcher of processes that the program itself started and connected."""
_group_numbers = itertools.count()


@contextmanager
def join_ranks(launch: Launch, precision: str) -> Iterator[Ranks]:
    """Joins the process group for the duration of a with block.

    A group that the program made before is used, and stays. Another is left when all ranks leave the block in
    the same way: at its end, by a user's mistake, or by a stop they agreed on. After any other error it is
    not: the other ranks may wait in a collective, and leaving the group would wait for them. So the process
    ends, shows its traceback, and its launcher ends the others.
    """
    ranks = start_ranks(launch, precision)
    try:
        yield ranks
    except (ConfigError, AgreedStop):
        ranks.close()
        raise
    except BaseException:
        if ranks.world_size == 1:
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
        ConfigError: on every rank, if two share a GPU and NCCL connects them.
    """
    has_mps = torch.backends.mps.is_available() and launch.world_size == 1  # no backend connects several
    use_cpu = launch.wants_cpu or not (torch.cuda.is_available() or has_mps)
    kind = "cpu" if use_cpu else "cuda" if torch.cuda.is_available() else "mps"
    check_precision(precision, kind)
    if launch.launcher == "srun":
        os.environ.update(torchrun_variables(launch))
    elif launch.launcher == PROGRAM:
        os.environ.update(rank_variables(launch))
    if type(multiprocessing.current_process()).__name__ == "ForkProcess":  # the class is not on every system
        # OpenMP does not survive a fork, for one by Accelerate's notebook_launcher: if the notebook has
        # computed with several threads, this process would wait for threads that it does not have.
        torch.set_num_threads(1)
    elif use_cpu and "OMP_NUM_THREADS" not in os.environ:
        num_threads = threads_per_process(num_cores(), launch.local_world_size)
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
        torch.set_num_threads(num_threads)
    if importlib.util.find_spec("lomo_optim") is None:
        # Accelerate's optimizer looks for this package twice a step, through all of sys.path: 0.4 ms. With
        # this entry the import system knows that it is absent, and answers immediately.
        sys.modules["lomo_optim"] = None  # type: ignore[assignment]
    if kind == "cuda":
        # Exact reduction needs it. Read at the first product, which a user's model may compute as it is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if use_cpu:
        keep_freed_memory()
    is_launched = "RANK" in os.environ and (launch.world_size > 1 or "LOCAL_RANK" in os.environ)
    owns_group = is_launched and not dist.is_initialized()
    if owns_group:
        join_new_group(launch, "nccl" if kind == "cuda" else "gloo")
    accelerator = Accelerator(cpu=use_cpu, mixed_precision=precision)
    if accelerator.num_processes != launch.world_size:
        raise RankError(
            f"world size = {accelerator.num_processes}: {launch.launcher} was asked for {launch.world_size}; "
            "start the processes with accelerate launch --multi_gpu, torchrun or srun"
        )
    control: Any = None
    if launch.world_size > 1:
        control = dist.new_group(backend="gloo", timeout=timedelta(hours=1))
    ranks = Ranks(
        accelerator=accelerator,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_threads=torch.get_num_threads(),
        control=control,
        owns_group=owns_group,
    )
    check_own_gpus(ranks)
    return ranks


def join_new_group(launch: Launch, backend: str) -> None:
    """Makes the default process group, which Accelerate then finds.

    Accelerate would make it once per process. A second group cannot meet in the same way: its port may still
    be taken by the store of the first (`accelerate launch`), or that store still holds the addresses of the
    first (torchrun). So one store is kept, and each group has keys of its own in it. All ranks make the same
    groups in the same order.
    """
    place = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    store = launch_store(*place, launch.rank, launch.world_size)
    prefix = f"lockstep/{next(_group_numbers)}"
    dist.init_process_group(
        backend, store=dist.PrefixStore(prefix, store), rank=launch.rank, world_size=launch.world_size
    )


@functools.cache
def launch_store(address: str, port: str, rank: int, world_size: int) -> dist.Store:
    """The store on which the ranks meet, as torch finds it in the environment; kept for the whole process.

    A program that makes a group itself afterwards shares it: torch's server is one per port and process.
    """
    store, _, _ = next(dist.rendezvous("env://", rank, world_size))
    return store


def launch_of_group(launch: Launch) -> Launch:
    """The launch, with rank and world size of a process group that the program itself made before.

    torch.multiprocessing, for one, starts processes without a launcher's variables. All of them count as
    processes of one node.
    """
    if not dist.is_initialized() or "RANK" in os.environ:
        return launch
    rank, world_size = dist.get_rank(), dist.get_world_size()
    on_gpu = torch.cuda.is_initialized()
    return replace(
        launch,
        launcher=PROGRAM,
        rank=rank,
        local_rank=torch.cuda.current_device() if on_gpu else rank,
        world_size=world_size,
        local_world_size=world_size,
    )
