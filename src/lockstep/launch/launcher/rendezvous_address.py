"""Where the ranks of a launch meet: the address and port on which rank 0 listens."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from lockstep.errors import ConfigError, require
from lockstep.launch.launcher.variables import Launch

# Below the kernel's ephemeral ports, which begin at 32768: one of those may be taken by any connection.
FIRST_PORT, NUM_PORTS = 12000, 20000
STEPS_OF_A_JOB = 8
DEFAULT_PORT = 29500  # torchrun's and accelerate's


class Rendezvous(NamedTuple):
    """MASTER_ADDR and MASTER_PORT of torch.distributed."""

    address: str
    port: int


def rendezvous(num_nodes: int, environ: Mapping[str, str] = os.environ) -> Rendezvous:
    """Where the ranks of a launch meet: the one answer for slurm/train.sbatch, srun, doctor and the user.

    MASTER_ADDR and MASTER_PORT, if they are set (`accelerate_options` refuses MASTER_ADDR on one node, where
    `accelerate launch` would ignore it). Otherwise the address of the first node, or of this machine
    if it is the only one, and a port derived from the SLURM job.

    Raises:
        ConfigError: MASTER_PORT is not a port, or SLURM does not tell the address of the first node.
    """
    address = environ.get("MASTER_ADDR", "")
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    if not address:
        address = node_address(nodes) if nodes and num_nodes > 1 else "127.0.0.1"
    port = environ.get("MASTER_PORT") or str(job_port(environ))
    is_port = port.isdecimal() and 0 < int(port) < 2**16
    require(is_port, "MASTER_PORT", port, "must be a port, 1 to 65535; or unset it")
    return Rendezvous(address, int(port))


def job_port(environ: Mapping[str, str]) -> int:
    """A port that differs between concurrent jobs, array tasks and steps, as they may share a node."""
    if "SLURM_JOB_ID" not in environ:
        return DEFAULT_PORT
    job, step = int(environ["SLURM_JOB_ID"]), int(environ.get("SLURM_STEP_ID", "0"))
    return FIRST_PORT + (job * STEPS_OF_A_JOB + step % STEPS_OF_A_JOB) % NUM_PORTS


def torchrun_variables(launch: Launch, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that torch.distributed needs, which torchrun sets and srun does not."""
    num_nodes = int(environ.get("SLURM_STEP_NUM_NODES") or environ.get("SLURM_NNODES", "1"))
    address, port = rendezvous(num_nodes if launch.world_size > 1 else 1, environ)
    return {**rank_variables(launch), "MASTER_ADDR": address, "MASTER_PORT": str(port)}


def rank_variables(launch: Launch) -> dict[str, str]:
    """The variables by which torch and Accelerate know a process among the others."""
    return {
        "RANK": str(launch.rank),
        "LOCAL_RANK": str(launch.local_rank),
        "WORLD_SIZE": str(launch.world_size),
        "LOCAL_WORLD_SIZE": str(launch.local_world_size),
    }


def node_address(nodes: str) -> str:
    """The NodeAddr of a SLURM node list's first node: a name that does not resolve would hang the job.

    Raises:
        ConfigError: `scontrol`, which knows it, is not on the PATH, as in a container, or fails.
    """

    def scontrol(*words: str) -> str:
        try:
            return subprocess.run(
                ["scontrol", *words], check=True, capture_output=True, text=True, timeout=30
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"MASTER_ADDR: is not set, and scontrol, which knows the address of {nodes}, does not answer "
                f"({reason}); set it to the first node's address on all nodes"
            ) from error

    name = scontrol("show", "hostnames", nodes).split()[0]
    facts = dict(word.split("=", 1) for word in scontrol("show", "node", name, "-o").split() if "=" in word)
    return facts["NodeAddr"]
