"""What the launcher started: this process's rank and the world size, from environment variables. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.errors import RankError


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


def read_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """Reads the variables of torchrun, accelerate and srun.

    Raises:
        RankError: several processes were requested, but the launcher started one; or accelerate was asked for
            an engine (FSDP, DeepSpeed, Megatron-LM) or a compiler.
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
        raise RankError(f"--dynamo_backend = {backend!r}: must be 'no', as no other is supported")

    if "RANK" in environ and "WORLD_SIZE" in environ:
        world_size = int(environ["WORLD_SIZE"])
        return Launch(
            launcher="accelerate" if under_accelerate else "torchrun",
            rank=int(environ["RANK"]),
            local_rank=int(environ.get("LOCAL_RANK", "0")),
            world_size=world_size,
            local_world_size=int(environ.get("LOCAL_WORLD_SIZE", world_size)),
            precision=precision,
            wants_cpu=wants_cpu,
        )
    # Only srun sets SLURM_STEP_ID: in the batch shell SLURM_NTASKS is what was allocated, not started.
    if "SLURM_STEP_ID" in environ and "SLURM_PROCID" in environ and not under_accelerate:
        return Launch(
            launcher="srun",
            rank=int(environ["SLURM_PROCID"]),
            local_rank=int(environ["SLURM_LOCALID"]),
            world_size=int(environ.get("SLURM_STEP_NUM_TASKS") or environ["SLURM_NTASKS"]),
            local_world_size=_tasks_on_this_node(environ),
            precision=precision,
            wants_cpu=wants_cpu,
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
    """This process's rank, for messages; unlike `read_launch` it never raises."""
    return int(environ.get("RANK", environ.get("SLURM_PROCID", "0")))


def _tasks_on_this_node(environ: Mapping[str, str]) -> int:
    """The entry of node SLURM_NODEID in SLURM_STEP_TASKS_PER_NODE, such as '2(x3),1'."""
    counts: list[int] = []
    for entry in environ["SLURM_STEP_TASKS_PER_NODE"].split(","):
        tasks, _, num_nodes = entry.partition("(x")
        counts += [int(tasks)] * int(num_nodes.rstrip(")") or 1)
    return counts[int(environ["SLURM_NODEID"])]


def device_index(launch: Launch, num_visible: int) -> int:
    """The index of this process's GPU among those it sees; under `srun --gpus-per-task=1` that is only one.

    Accelerate picks the device in the same way, but passes LOCAL_RANK itself to DistributedDataParallel.
    """
    return launch.local_rank % num_visible
