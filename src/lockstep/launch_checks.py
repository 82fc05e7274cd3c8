"""The part of `lockstep doctor` that looks at the place: nodes, processes, and how they meet."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys

from lockstep.errors import ConfigError
from lockstep.launch import rendezvous
from lockstep.launch_commands import Place, launcher_words
from lockstep.machine import num_cores

PROBE_SECONDS = 60


def one_task_a_node(nodes: int) -> list[str]:
    """The words of srun before a command that each node of this allocation is to run."""
    return ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap"]


def check_processes(place: Place, cores: int) -> str:
    asked = f"{place.nodes} nodes x {place.per_node} processes"
    if place.is_here and 0 < place.gpus < place.per_node:
        raise ConfigError(
            f"{place.per_node} processes on a node with {place.gpus} GPUs: two ranks would share one; "
            f"ask for {place.per_node} GPUs a node, or for {place.gpus} processes"
        )
    if place.is_here and not place.gpus and cores < place.per_node:
        return f"{asked}, on CPU; more than the {cores} cores of this machine, so they will be slow"
    if place.is_here and not place.gpus:
        return f"{asked}, on CPU"
    return asked


def check_rendezvous(place: Place) -> str:
    if place.world_size == 1:
        return "one process needs none"
    if place.nodes > 1 and not place.in_allocation:
        return "several nodes: known once they are allocated; check again there"
    address, port = rendezvous(place.nodes)
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


def check_world_size(place: Place) -> str:
    """Starts the processes and counts them, without training: two launch forms exit 0 with a world of one."""
    nodes = place.nodes if place.in_allocation else 1
    if not place.is_here or place.per_node > max(place.gpus, num_cores()):
        return f"{place.world_size} asked for; not tried, as this machine is too small or would not train"
    words = launcher_words(nodes, place.per_node, rendezvous(nodes), "$SLURM_NODEID")
    # One write a line, as lines of several processes get merged.
    # This interpreter's own accelerate: its virtual environment need not be on the PATH.
    accelerate = f"{shlex.quote(sys.executable)} -m accelerate.commands.launch"
    probe = f"{accelerate} {words} --no_python sh -c 'echo \"world ${{WORLD_SIZE:-1}}.\"'"
    command = ["bash", "-c", probe]
    if nodes > 1:
        command = [*one_task_a_node(nodes), *command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    sizes = [word.split(".")[0] for word in result.stdout.split("world ")[1:]]
    wanted = nodes * place.per_node
    if sizes != [str(wanted)] * wanted:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(
            f"{wanted} processes asked for, {len(sizes)} started, with world sizes {', '.join(sizes) or '-'} "
            f"({last}); look for a default_config.yaml of accelerate, and start it with the commands below"
        )
    return f"{wanted} processes were started, each in a world of {wanted}"


def check_slurm(place: Place) -> str:
    missing = [name for name in ("sbatch", "srun", "scontrol", "sinfo") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"no {', '.join(missing)} on the PATH; log in to a node of the cluster")
    words = ["sinfo", "--noheader", "--format=%R %D %c %G"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_SECONDS)
    if result.returncode != 0:
        raise ConfigError(f"slurmctld does not answer: {result.stderr.strip()}")
    return fitting_partitions(result.stdout, place.nodes, place.per_node)


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
