"""What the launcher started: this process's rank and the world size, from environment variables. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.errors import RankError
from lockstep.launch.launcher.accelerate_defaults import as_in_default_config


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process of a launch: which launcher started it, as which rank, in a world of what size."""

    launcher: str
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    precision: str = "no"
    """The value of `accelerate launch --mixed_precision`."""
    wants_cpu: bool = False
    """Whether `accelerate launch --cpu` or ACCELERATE_USE_CPU asks for CPUs, although there may be GPUs."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0


ALONE = "to run alone, add --launcher none, or in a script of your own unset the variable"
"""How to keep variables that were meant for another program from deciding about this one."""
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""The number of processes that mpirun started, by its kinds: Open MPI, MPICH and Intel MPI, MVAPICH."""
LAUNCH_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID"),
    *MPI_SIZES,
)
"""The variables that make a process one of several."""


def read_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """Reads the variables of torchrun, accelerate and srun.

    Raises:
        RankError: a variable makes no sense; several processes were requested, but the launcher started one;
            mpirun started the process; or accelerate was asked for an engine (FSDP, DeepSpeed, Megatron-LM)
            or a compiler.
    """
    under_accelerate = "ACCELERATE_MIXED_PRECISION" in environ
    precision = environ.get("ACCELERATE_MIXED_PRECISION", "no")
    wants_cpu = environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")

    for engine in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true":
            raise RankError(
                f"ACCELERATE_USE_{engine} = 'true': Lockstep sums gradients itself; launch without {engine}"
            )
    backend = environ.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() != "no":
        source = as_in_default_config("dynamo_backend", backend, environ)
        raise RankError(f"--dynamo_backend = {backend!r}{source}: must be 'no', as no other is supported")

    rank_variable = _rank_variable(environ)
    if rank_variable == "RANK":
        world_size = _number(environ, "WORLD_SIZE", at_least=1)
        for name in ("MASTER_ADDR", "MASTER_PORT") if world_size > 1 else ():
            if not environ.get(name):
                rule = f"needs a {name}, where the processes meet, and none is set; {ALONE}"
                raise RankError(f"WORLD_SIZE = {world_size}: {rule}")
        return Launch(
            launcher="accelerate" if under_accelerate else "torchrun",
            rank=_number(environ, "RANK", below=world_size),
            local_rank=_number(environ, "LOCAL_RANK", default=0),
            world_size=world_size,
            local_world_size=_number(environ, "LOCAL_WORLD_SIZE", at_least=1, default=world_size),
            precision=precision,
            wants_cpu=wants_cpu,
        )
    if rank_variable == "SLURM_PROCID":
        size_variable = "SLURM_STEP_NUM_TASKS" if environ.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"
        world_size = _number(environ, size_variable, at_least=1, default=1)
        return Launch(
            launcher="srun",
            rank=_number(environ, rank_variable, below=world_size),
            local_rank=_number(environ, "SLURM_LOCALID", default=0),
            world_size=world_size,
            local_world_size=_tasks_on_this_node(environ) if world_size > 1 else 1,
            precision=precision,
            wants_cpu=wants_cpu,
        )
    for name in MPI_SIZES:
        if environ.get(name, "1") not in ("0", "1"):
            raise RankError(
                f"{name} = {environ[name]}: mpirun started this process, and Lockstep's ranks meet without "
                f"MPI; start them with accelerate launch, torchrun or srun; {ALONE}"
            )
    # `accelerate launch --cpu --num_processes N` sets MASTER_PORT and then starts a single process.
    if under_accelerate and "MASTER_PORT" in environ:
        raise RankError(
            "world size = 1: accelerate launch was asked for several processes, but started one; "
            "use --multi_gpu (on CPUs too) instead of --cpu; for a single process unset MASTER_PORT"
        )
    return Launch(
        launcher="accelerate" if under_accelerate else "python", precision=precision, wants_cpu=wants_cpu
    )


def array_group(environ: Mapping[str, str] = os.environ) -> str:
    """A name for the group of runs that one SLURM array starts; empty outside of an array."""
    job = environ.get("SLURM_ARRAY_JOB_ID", "")
    return f"slurm-{job}" if job else ""


def process_rank(environ: Mapping[str, str] = os.environ) -> int:
    """This process's rank, as in `read_launch`, but it never raises: for messages."""
    stated = environ.get(_rank_variable(environ), "0")
    return int(stated) if stated.isdecimal() else 0


def forget_launcher() -> None:
    """Takes the launcher's variables out of this process's environment: it then is a process alone."""
    for name in LAUNCH_VARIABLES:
        os.environ.pop(name, None)


def _rank_variable(environ: Mapping[str, str]) -> str:
    """The variable that holds this process's rank; empty for a process alone."""
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return "RANK"
    # Only srun sets SLURM_STEP_ID: in the batch shell SLURM_NTASKS is what was allocated, not started. What
    # `accelerate launch` starts inside of a task of srun inherits the task's variables.
    is_task = "SLURM_STEP_ID" in environ and "SLURM_PROCID" in environ
    return "SLURM_PROCID" if is_task and "ACCELERATE_MIXED_PRECISION" not in environ else ""


def _number(
    environ: Mapping[str, str],
    name: str,
    *,
    at_least: int = 0,
    below: int | None = None,
    default: int | None = None,
) -> int:
    """The number that a launcher's variable holds.

    Raises:
        RankError: it holds none, or one out of its range.
    """
    stated = environ.get(name, "" if default is None else str(default))
    if stated.isdecimal() and at_least <= int(stated) and (below is None or int(stated) < below):
        return int(stated)
    limit = "" if below is None else f" and < {below}, the number of processes"
    raise RankError(f"{name} = {stated!r}: must be a whole number >= {at_least}{limit}; {ALONE}")


def _tasks_on_this_node(environ: Mapping[str, str]) -> int:
    """The entry of node SLURM_NODEID in SLURM_STEP_TASKS_PER_NODE, such as '2(x3),1'.

    Raises:
        RankError: there is none.
    """
    stated, node = environ.get("SLURM_STEP_TASKS_PER_NODE", ""), _number(environ, "SLURM_NODEID")
    counts: list[int] = []
    for tasks, num_nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", stated):
        counts += [int(tasks)] * int(num_nodes or 1)
    if node >= len(counts):
        rule = f"must have an entry for node {node}, SLURM_NODEID; {ALONE}"
        raise RankError(f"SLURM_STEP_TASKS_PER_NODE = {stated!r}: {rule}")
    return counts[node]
