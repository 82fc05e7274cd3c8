"""Where the ranks meet: address, port, and how many processes an allocation holds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from lockstep.launch.variables import read_launch


def srun_rendezvous(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that torch.distributed needs and that srun, unlike torchrun, does not set."""
    launch = read_launch(environ)
    job, step = int(environ["SLURM_JOB_ID"]), int(environ["SLURM_STEP_ID"])
    return {
        "RANK": str(launch.rank),
        "LOCAL_RANK": str(launch.local_rank),
        "WORLD_SIZE": str(launch.world_size),
        "LOCAL_WORLD_SIZE": str(launch.local_world_size),
        "MASTER_ADDR": environ.get("MASTER_ADDR") or node_address(environ["SLURM_STEP_NODELIST"]),
        # Distinct over concurrent jobs, array tasks and steps; below the kernel's range of ephemeral ports.
        "MASTER_PORT": environ.get("MASTER_PORT") or str(12000 + (job * 8 + step) % 16000),
    }


def read_allocation(environ: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(nodes, processes on each) that slurm/train.sbatch would start here; None outside of an allocation."""
    if "SLURM_JOB_ID" not in environ:
        return None
    nodes = int(environ.get("SLURM_NNODES", "1"))
    names = ("LOCKSTEP_PROCESSES_PER_NODE", "SLURM_GPUS_ON_NODE", "SLURM_NTASKS_PER_NODE")
    per_node = next((int(environ[name]) for name in names if environ.get(name)), 0)
    return nodes, per_node or int(environ.get("SLURM_NTASKS", nodes)) // nodes


def rendezvous(num_nodes: int, environ: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """(address, port) at which the ranks of slurm/train.sbatch, or of a launch by hand, would meet."""
    job = environ.get("SLURM_JOB_ID", "")
    address = environ.get("MASTER_ADDR", "")
    if not address:
        address = node_address(environ["SLURM_JOB_NODELIST"]) if job and num_nodes > 1 else "127.0.0.1"
    return address, int(environ.get("MASTER_PORT") or (12000 + int(job) % 20000 if job else 29500))


def node_address(nodes: str) -> str:
    """NodeAddr of a list's first node: its host name need not resolve, and a job would hang on it."""

    def scontrol(*words: str) -> str:
        return subprocess.run(
            ["scontrol", *words], check=True, capture_output=True, text=True, timeout=30
        ).stdout

    name = scontrol("show", "hostnames", nodes).split()[0]
    facts = dict(word.split("=", 1) for word in scontrol("show", "node", name, "-o").split() if "=" in word)
    return facts["NodeAddr"]
