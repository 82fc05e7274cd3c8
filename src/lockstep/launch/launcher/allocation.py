"""How many nodes and processes a run gets: granted by SLURM, or planned. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.errors import ConfigError, counted, refuse, require
from lockstep.launch.machine import threads_per_process


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The nodes of a run and the processes on each of them."""

    num_nodes: int
    processes_per_node: int
    is_slurm: bool = False
    """Whether SLURM is to start the run."""
    is_granted: bool = False
    """Whether SLURM has granted these nodes and this process runs on one of them."""

    @property
    def world_size(self) -> int:
        return self.num_nodes * self.processes_per_node

    @property
    def has_this_machine(self) -> bool:
        """Whether this machine is one of the nodes; a cluster's login node is not."""
        return self.is_granted or not self.is_slurm

    def __str__(self) -> str:
        return f"{counted(self.num_nodes, 'node')} x {counted(self.processes_per_node, 'process')}"


def read_allocation(
    environ: Mapping[str, str] = os.environ, processes_per_node: int = 0
) -> Allocation | None:
    """The SLURM allocation that this process runs in, with the processes that slurm/train.sbatch starts.

    Processes per node: the argument if it is not 0, else LOCKSTEP_PROCESSES_PER_NODE, else one for each GPU
    of the node, else (on CPU nodes) one for each task that was asked for, else one.

    Returns:
        None outside of an allocation.

    Raises:
        ConfigError: LOCKSTEP_PROCESSES_PER_NODE is not a number, or nodes got different numbers of GPUs or
            tasks.
    """
    if "SLURM_JOB_ID" not in environ:
        return None
    num_nodes = int(environ.get("SLURM_NNODES", "1"))
    stated = environ.get("LOCKSTEP_PROCESSES_PER_NODE", "")
    if processes_per_node:
        per_node = processes_per_node
    elif stated:
        is_count = stated.isdecimal() and int(stated) >= 1
        require(is_count, "LOCKSTEP_PROCESSES_PER_NODE", stated, "must be a whole number >= 1; or unset it")
        per_node = int(stated)
    elif num_gpus := int(environ.get("SLURM_GPUS_ON_NODE") or 0):
        per_node = num_gpus
        gpus = environ.get("SLURM_GPUS", "")  # sbatch --gpus, such as '8' or 'a100:8': of all nodes together
        if gpus and sum(int(entry.rpartition(":")[2]) for entry in gpus.split(",")) != num_nodes * per_node:
            raise uneven("SLURM_GPUS", gpus, num_nodes, "GPUs", "--gpus-per-node")
    else:
        tasks = environ.get("SLURM_NTASKS", "")
        per_node = int(environ.get("SLURM_NTASKS_PER_NODE") or int(tasks or num_nodes) // num_nodes)
        if tasks and int(tasks) != num_nodes * per_node:
            raise uneven("SLURM_NTASKS", tasks, num_nodes, "tasks", "--ntasks-per-node")
    return Allocation(num_nodes=num_nodes, processes_per_node=per_node, is_slurm=True, is_granted=True)


def uneven(name: str, value: str, num_nodes: int, what: str, option: str) -> ConfigError:
    """The error for nodes that would run different numbers of processes, which `accelerate launch` cannot."""
    rule = f"must be the same number of {what} on each of {counted(num_nodes, 'node')}; ask with {option}"
    return refuse(name, value, rule)


def allocated_threads(allocation: Allocation, environ: Mapping[str, str] = os.environ) -> str:
    """OMP_NUM_THREADS of each process: what the user set, else an equal share of the node's CPUs."""
    cpus = int(environ.get("SLURM_CPUS_ON_NODE", "1"))
    return environ.get("OMP_NUM_THREADS") or str(threads_per_process(cpus, allocation.processes_per_node))
