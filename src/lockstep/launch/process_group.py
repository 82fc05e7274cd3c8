"""Joins the process group and picks the device."""

from __future__ import annotations

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

from lockstep.config import RunConfig
from lockstep.errors import RankError, is_agreed
from lockstep.launch.launcher.rendezvous_address import rank_variables, torchrun_variables
from lockstep.launch.launcher.variables import ALONE, Launch
from lockstep.launch.liveness.lifeline import Lifeline
from lockstep.launch.liveness.lifeline_ends import SoloEnd
from lockstep.launch.machine import allow_connections, keep_freed_memory, num_cores, threads_per_process
from lockstep.launch.network import choose_interface
from lockstep.launch.precision import check_precision
from lockstep.launch.ranks.gpus import check_own_gpus, refused_busy_gpu
from lockstep.launch.ranks.node_groups import make_node_groups
from lockstep.launch.ranks.ranks import Ranks
from lockstep.launch.rendezvous_store import meet

DEFAULT_LIMIT_SECONDS = RunConfig().timeout_seconds
BACKEND_SECONDS = 60.0
"""How much longer than Lockstep NCCL waits, so that the message is ours, which names a rank."""
FOREVER = timedelta(weeks=1)
"""The limit of collectives whose wait the lifeline ends: the main rank may download, or be in a debugger."""
PROGRAM = "program"
"""The launcher of processes that the program itself started and connected."""
_group_numbers = itertools.count()


@contextmanager
def join_ranks(
    launch: Launch, precision: str, limit_seconds: float = DEFAULT_LIMIT_SECONDS, *, debugs: bool = False
) -> Iterator[Ranks]:
    """Joins the process group for the duration of a with block.

    A group that the program made before is used, and stays. Another is left when all ranks leave the block in
    the same way: at its end, by a user's mistake, or by a stop they agreed on. After any other error it is
    not: the other ranks may wait in a collective, and leaving the group would wait for them. So the process
    tells them why, and ends.

    Args: as in `start_ranks`.

    Raises:
        PeerError: another rank failed.
    """
    ranks = start_ranks(launch, precision, limit_seconds, debugs=debugs)
    try:
        yield ranks
    except BaseException as error:
        if is_agreed(error) or ranks.world_size == 1:
            ranks.close()
        else:
            ranks.report_failure(error)
        raise
    ranks.close()


def start_ranks(
    launch: Launch, precision: str, limit_seconds: float = DEFAULT_LIMIT_SECONDS, *, debugs: bool = False
) -> Ranks:
    """Joins the process group and picks the device: CUDA, else CPU.

    Args:
        launch: what the launcher started.
        precision: 'no', 'bf16' or 'fp16'.
        limit_seconds: how long to wait for a rank that sends no heartbeat.
        debugs: whether a debugger will stop the main rank, so that NCCL's collectives must wait for it.

    Raises:
        RankError: the device does not support the precision, another process has it to itself, or fewer
            processes met than were launched.
        ConfigError: on every rank, if two share a GPU and NCCL connects them.
        RankFailed: a rank did not come in time, or failed before all had come.
    """
    use_cpu = launch.wants_cpu or not torch.cuda.is_available()
    kind = "cpu" if use_cpu else "cuda"
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
    lifeline, step_limit = None, FOREVER
    if owns_group:
        backend = "nccl" if kind == "cuda" else "gloo"
        # NCCL's hosts run ahead of their devices, so the lifeline may not see that one waits.
        has_own_limit = backend == "nccl" and not debugs
        step_limit = timedelta(seconds=limit_seconds + BACKEND_SECONDS) if has_own_limit else FOREVER
        lifeline = join_new_group(launch, backend, limit_seconds, step_limit)
    elif not is_launched and not dist.is_initialized() and os.environ.get("WORLD_SIZE", "1") != "1":
        # Accelerate would take it for a launch, and fail with a traceback.
        rule = f"needs a RANK too, and none is set; start the ranks with torchrun or srun; {ALONE}"
        raise RankError(f"WORLD_SIZE = {os.environ['WORLD_SIZE']}: {rule}")
    with reported_failure(lifeline), refused_busy_gpu():
        accelerator = Accelerator(cpu=use_cpu, mixed_precision=precision)
        torch.zeros((), device=accelerator.device)  # before NCCL, which would fail in a traceback
    if accelerator.num_processes != launch.world_size:
        raise RankError(
            f"world size = {accelerator.num_processes}: {launch.launcher} was asked for {launch.world_size}; "
            "start the processes with accelerate launch --multi_gpu, torchrun or srun"
        )
    control: Any = None
    nodes = None
    if launch.world_size > 1:
        with reported_failure(lifeline):
            control = dist.new_group(backend="gloo", timeout=FOREVER)
            if owns_group:
                local_ranks: list[Any] = [None] * launch.world_size
                dist.all_gather_object(local_ranks, launch.local_rank, group=control)
                nodes = make_node_groups(launch.rank, local_ranks, step_limit)
    ranks = Ranks(
        accelerator=accelerator,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_threads=torch.get_num_threads(),
        control=control,
        owns_group=owns_group,
        lifeline=lifeline or SoloEnd(launch.rank, limit_seconds),
        nodes=nodes,
    )
    check_own_gpus(ranks)
    return ranks


def join_new_group(
    launch: Launch, backend: str, limit_seconds: float, step_limit: timedelta
) -> Lifeline | None:
    """Makes the default process group, which Accelerate then finds. A world of one meets nobody.

    Accelerate would make it once per process. A second group cannot meet in the same way: its port may still
    be taken by the store of the first (`accelerate launch`), or that store still holds the addresses of the
    first (torchrun). So one store is kept, and each group has keys of its own in it. All ranks make the same
    groups in the same order.
    """
    number = next(_group_numbers)
    if launch.world_size == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        return None
    allow_connections(launch.world_size)
    store, lifeline = meet(launch, limit_seconds, f"lockstep/{number}")
    with reported_failure(lifeline):
        choose_interface(lifeline.exchange_addresses())
        dist.init_process_group(
            backend, store=store, rank=launch.rank, world_size=launch.world_size, timeout=step_limit
        )
    return lifeline


@contextmanager
def reported_failure(lifeline: Lifeline | None) -> Iterator[None]:
    """Tells the other ranks if the block, which makes process groups, fails on this one.

    Raises:
        PeerError: another rank failed before, so that the error is only torch's word for that.
    """
    if lifeline is None:
        yield
        return
    lifeline.is_waiting = True
    try:
        yield
    except BaseException as error:
        lifeline.report(error)
        raise
    lifeline.is_waiting = False


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
