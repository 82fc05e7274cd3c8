"""What the launcher asked for, read from its environment variables; the only reader of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.errors import RankError


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The place of this process among those that were asked for."""

    launcher: str
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    precision: str = "no"
    """What `accelerate launch --mixed_precision` says."""
    wants_cpu: bool = False
    """Whether `accelerate launch --cpu` or ACCELERATE_USE_CPU keeps the run off the GPUs."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def read_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """Reads torchrun's, accelerate's and srun's variables.

    Raises:
        RankError: several processes were asked for, but the launcher started one.
    """
    under_accelerate = "ACCELERATE_MIXED_PRECISION" in environ
    precision = environ.get("ACCELERATE_MIXED_PRECISION", "no")
    wants_cpu = environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")

    for engine in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true":
            raise RankError(f"accelerate's {engine}: Lockstep sums gradients itself; choose none of them")
    if environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        raise RankError("accelerate's dynamo_backend: is not supported; choose 'no'")

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
    # SLURM_STEP_ID is set by srun alone: in the batch shell SLURM_NTASKS is what was allocated, not started.
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
    # `accelerate launch --cpu --num_processes N` sets a rendezvous address and then starts one process.
    if under_accelerate and "MASTER_PORT" in environ:
        raise RankError(
            "world size = 1: accelerate launch was asked for several processes but started one; "
            "give it --multi_gpu, on CPUs too, and not --cpu; for one process unset MASTER_PORT"
        )
    return Launch(
        launcher="accelerate" if under_accelerate else "python", precision=precision, wants_cpu=wants_cpu
    )


def array_group(environ: Mapping[str, str] = os.environ) -> str:
    """A name for the runs that one SLURM array starts; empty outside of an array."""
    job = environ.get("SLURM_ARRAY_JOB_ID", "")
    return f"slurm-{job}" if job else ""


def process_rank(environ: Mapping[str, str] = os.environ) -> int:
    """The rank to report under, also where the launch as a whole makes no sense."""
    return int(environ.get("RANK", environ.get("SLURM_PROCID", "0")))


def _tasks_on_this_node(environ: Mapping[str, str]) -> int:
    """Of SLURM_STEP_TASKS_PER_NODE such as '2(x3),1', the entry of node SLURM_NODEID."""
    counts: list[int] = []
    for entry in environ["SLURM_STEP_TASKS_PER_NODE"].split(","):
        tasks, _, times = entry.partition("(x")
        counts += [int(tasks)] * int(times.rstrip(")") or 1)
    return counts[int(environ["SLURM_NODEID"])]


def device_index(launch: Launch, num_visible: int) -> int:
    """Which of the GPUs that this process sees is its own: under `srun --gpus-per-task=1` it sees no other.

    Accelerate picks the device in the same way, but gives LOCAL_RANK itself to DistributedDataParallel.
    """
    return launch.local_rank % num_visible
