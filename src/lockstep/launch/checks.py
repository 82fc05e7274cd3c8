"""The part of `lockstep doctor` that looks at the allocation: nodes, processes, and how they meet."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys

from lockstep.errors import ConfigError
from lockstep.launch.command_lines import Allocation, launcher_words
from lockstep.launch.machine import num_cores
from lockstep.launch.rendezvous import rendezvous

PROBE_SECONDS = 60


def srun_one_task_per_node(nodes: int) -> list[str]:
    """The words of srun before a command that each node of this allocation is to run."""
    return ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap"]


def check_processes(allocation: Allocation, cores: int) -> str:
    asked = f"{allocation.nodes} nodes x {allocation.per_node} processes"
    if allocation.is_here and 0 < allocation.gpus < allocation.per_node:
        raise ConfigError(
            f"{allocation.per_node} processes on a node with {allocation.gpus} GPUs: ranks would share them; "
            f"ask for {allocation.per_node} GPUs a node, or for {allocation.gpus} processes"
        )
    if allocation.is_here and not allocation.gpus and cores < allocation.per_node:
        return f"{asked}, on CPU; more than the {cores} cores of this machine, so they will be slow"
    if allocation.is_here and not allocation.gpus:
        return f"{asked}, on CPU"
    return asked


def check_rendezvous(allocation: Allocation) -> str:
    if allocation.world_size == 1:
        return "one process needs none"
    if allocation.nodes > 1 and not allocation.in_allocation:
        return "several nodes: known once they are allocated; check again there"
    address, port = rendezvous(allocation.nodes)
    try:
        family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(
            f"MASTER_ADDR = {address!r}: does not resolve ({error.strerror}); set it to an address that does"
        ) from error
    with socket.socket(family) as probe:
        probe.settimeout(3)
        if probe.connect_ex(target) == 0:
            raise ConfigError(f"MASTER_PORT = {port}: something listens there already; set another one")
    return f"{address}:{port} is free"


def check_world_size(allocation: Allocation) -> str:
    """Starts the processes and counts them, without training: two launch forms exit 0 with a world of one."""
    nodes = allocation.nodes if allocation.in_allocation else 1
    if not allocation.is_here or allocation.per_node > max(allocation.gpus, num_cores()):
        return (
            f"{allocation.world_size} asked for; not tried, as this machine is too small or would not train"
        )
    words = launcher_words(nodes, allocation.per_node, rendezvous(nodes), "$SLURM_NODEID")
    # One write a line, as lines of several processes get merged.
    # This interpreter's own accelerate: its virtual environment need not be on the PATH.
    accelerate = f"{shlex.quote(sys.executable)} -m accelerate.commands.launch"
    probe = f"{accelerate} {words} --no_python sh -c 'echo \"world ${{WORLD_SIZE:-1}}.\"'"
    command = ["bash", "-c", probe]
    if nodes > 1:
        command = [*srun_one_task_per_node(nodes), *command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    sizes = [word.split(".")[0] for word in result.stdout.split("world ")[1:]]
    wanted = nodes * allocation.per_node
    if sizes != [str(wanted)] * wanted:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(
            f"{wanted} processes asked for, {len(sizes)} started, with world sizes {', '.join(sizes) or '-'} "
            f"({last}); look for a default_config.yaml of accelerate, and start it with the commands below"
        )
    return f"{wanted} processes were started, each in a world of {wanted}"


def check_slurm(allocation: Allocation) -> str:
    missing = [name for name in ("sbatch", "srun", "scontrol", "sinfo") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"no {', '.join(missing)} on the PATH; log in to a node of the cluster")
    words = ["sinfo", "--noheader", "--format=%R %D %c %G"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_SECONDS)
    if result.returncode != 0:
        raise ConfigError(f"slurmctld does not answer: {result.stderr.strip()}")
    return fitting_partitions(result.stdout, allocation.nodes, allocation.per_node)


def fitting_partitions(sinfo: str, nodes: int, per_node: int) -> str:
    """Of lines 'partition nodes cpus gres', those partitions that have so many nodes with so many GPUs.

    Where no node has a GPU, CPUs count.

    Raises:
        ConfigError: there is none.
    """
    found: dict[str, int] = {}
    rows = [line.split(maxsplit=3) for line in sinfo.splitlines()]
    has_gpus = any("gpu" in gres for *_, gres in rows)
    for partition, count, cpus, gres in rows:
        gpus = sum(
            int(entry.partition("(")[0].rpartition(":")[2])
            for entry in gres.split(",")
            if entry.startswith("gpu")
        )
        if (gpus if has_gpus else int(cpus.rstrip("+"))) >= per_node:
            found[partition] = found.get(partition, 0) + int(count)
    fitting = [partition for partition, count in found.items() if count >= nodes]
    unit = "GPUs" if has_gpus else "CPUs"
    if not fitting:
        raise ConfigError(
            f"no partition has {nodes} nodes with {per_node} {unit}; "
            "sinfo --format='%R %D %c %G' shows what there is"
        )
    return f"{nodes} nodes with {per_node} {unit} are in partition {' or '.join(fitting)}"
