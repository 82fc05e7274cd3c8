"""What decides the kernels of a rank's GPU, which all ranks must have alike, and whether each has its own."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lockstep.errors import ConfigError, RankError, counted
from lockstep.launch.ranks.compare_ranks import differing_facts
from lockstep.launch.ranks.ranks import Ranks

KERNEL_VARIABLES = ("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE")
"""The variables that tell CUDA's libraries which kernels to use."""
SHARE_GPU = "NCCL_MULTI_RANK_GPU_ENABLE"
"""With 1, NCCL lets several ranks use one GPU (since 2.30, experimental)."""


def gpu_facts(device: torch.device) -> dict[str, Any]:
    """What the kernels on a GPU are chosen by, as JSON values; once the user's modules are imported.

    cuBLAS repeats its bits on GPUs of one architecture and number of multiprocessors (cuBLAS guide, 2.1.4).
    """
    properties = torch.cuda.get_device_properties(device)
    backends: Any = torch.backends  # its types lack the precisions
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": driver_version(),
        "cudnn": backends.cudnn.version(),
        "precision": {
            "matmul": backends.cuda.matmul.fp32_precision,
            "conv": backends.cudnn.conv.fp32_precision,
            "rnn": backends.cudnn.rnn.fp32_precision,
        },
        "limits": {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ},
    }


def driver_version() -> str:
    """The version of NVIDIA's driver; empty if it does not tell."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    match = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", text)
    return match[1] if match else ""


def unused_device(accelerator: torch.device | None) -> list[str]:
    """A warning if a machine has a device that is none of CUDA's, which Accelerate would take by itself.

    Lockstep computes on the CPU there: its bits, timers and collectives are those of CUDA and the CPU.

    Args:
        accelerator: the machine's accelerator, as torch names it.
    """
    if accelerator is None or accelerator.type in ("cuda", "cpu"):
        return []
    return [
        f"{accelerator.type} is not used, and the CPU computes: Lockstep supports CUDA devices and the CPU"
    ]


def differing_gpus(ranks: Ranks, *, is_exact: bool) -> list[str]:
    """Compares what decides the kernels of the ranks' GPUs. A collective.

    Returns:
        A warning for each difference.

    Raises:
        ConfigError: on every rank: there is one, and the reduction is exact. No digest would show it, as each
            rank gets the same sum.
    """
    if ranks.device.type != "cuda":
        return []
    differences = differing_facts(ranks, gpu_facts(ranks.device))
    texts = [f"the ranks' GPUs differ in {name} ({how})" for name, how in differences.items()]
    if texts and is_exact:
        remedy = "exact reduction needs them equal; use identical GPUs, or --reduction fast"
        raise ConfigError(f"{texts[0]}: {remedy}")
    return [f"{text}, so the bits depend on which rank computes what" for text in texts]


@contextmanager
def refused_busy_gpu() -> Iterator[None]:
    """Turns CUDA's error about a GPU that another process has to itself into one line.

    Raises:
        RankError: the block was the first to use this process's GPU, and its compute mode kept it out.
    """
    try:
        yield
    except RuntimeError as error:
        if "busy or unavailable" not in str(error):
            raise
        modes = ", ".join(sorted(set(compute_modes()))) or "unknown"
        raise RankError(
            f"CUDA refuses this process its GPU (compute mode {modes}): in Exclusive_Process one alone has a "
            "GPU. End the other process, which nvidia-smi shows, start one for each GPU, or ask for the "
            "compute mode Default"
        ) from error


def compute_modes() -> list[str]:
    """The compute mode of each GPU of this machine; none if nvidia-smi does not tell."""
    words = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def check_own_gpus(ranks: Ranks, environ: Mapping[str, str] = os.environ) -> None:
    """Checks that no two ranks share a GPU, if NCCL connects them. A collective, over the CPU's group.

    Raises:
        ConfigError: on every rank, if two do: NCCL would say so in a traceback of the first step.
    """
    if ranks.device.type != "cuda" or ranks.world_size == 1 or dist.get_backend() != "nccl":
        return
    properties = torch.cuda.get_device_properties(ranks.device)
    check_no_shared_gpu(ranks.gather_objects(str(properties.uuid)), properties.name, environ)


def check_no_shared_gpu(gpus: Sequence[str], name: str, environ: Mapping[str, str]) -> None:
    """Checks that each rank has its own GPU. Slices of one (MIG) are one GPU.

    Args:
        gpus: of each rank, the UUID.
        name: of this rank's GPU.
        environ: environment variables.

    Raises:
        ConfigError: two ranks have the same.
    """
    if environ.get(SHARE_GPU, "0") == "1":
        return
    first: dict[str, int] = {}
    for rank, gpu in enumerate(gpus):
        if first.setdefault(gpu, rank) != rank:
            num_gpus = counted(len(set(gpus)), "GPU")
            raise ConfigError(
                f"ranks {first[gpu]} and {rank} share one {name}, and NCCL needs one GPU per rank; start "
                f"{counted(len(set(gpus)), 'process')} for {num_gpus}, or set {SHARE_GPU}=1 (NCCL 2.30)"
            )


def hidden_gpus(ranks: Ranks) -> list[str]:
    """A warning if the ranks of a node do not see each other's GPUs. A collective, over the CPU's group."""
    if ranks.device.type != "cuda" or ranks.world_size == 1 or dist.get_backend() != "nccl":
        return []
    own = str(torch.cuda.get_device_properties(ranks.device).uuid)
    return hidden_gpus_of(ranks.gather_objects((platform.node(), own, torch.cuda.device_count())))


def hidden_gpus_of(ranks: Sequence[tuple[str, str, int]]) -> list[str]:
    """The same of what each rank tells: its node, its GPU, and how many GPUs it sees.

    SLURM lets a task open its own GPU alone if GPUs were asked for by task, or bound to one. NCCL then cannot
    copy from one GPU to another (NVIDIA/nccl#1066).
    """
    for rank, (node, _, num_visible) in enumerate(ranks):
        num_used = len({gpu for other, gpu, _ in ranks if other == node})
        if num_visible < num_used:
            return [
                f"rank {rank} sees {num_visible} of the {num_used} GPUs that ranks on {node} use: NCCL may "
                "find no direct way between them; let each see all: srun --gpus-per-node, without --gpu-bind"
            ]
    return []


def connect_gpus(ranks: Ranks) -> None:
    """Lets NCCL connect the ranks before the clock starts: that takes seconds, many over many nodes.

    A collective of the GPUs.
    """
    if ranks.device.type != "cuda" or ranks.world_size == 1:
        return
    groups = [None] if ranks.nodes is None else [None, ranks.nodes.within, ranks.nodes.across]
    for group in groups:
        values = torch.zeros(dist.get_world_size(group), device=ranks.device)
        received = torch.empty_like(values)
        dist.all_to_all_single(received, values, group=group)
        dist.all_gather_into_tensor(received, values[:1], group=group)
        dist.all_reduce(values, group=group)
    torch.cuda.synchronize(ranks.device)
