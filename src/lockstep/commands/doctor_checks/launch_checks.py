"""The checks of `lockstep doctor` that concern the allocation: nodes, processes, and how they meet."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys

from lockstep.errors import ConfigError, counted, refuse
from lockstep.launch import Allocation, accelerate_options, rendezvous

PROBE_SECONDS = 60
SINFO_WORDS = ["sinfo", "--noheader", "--noconvert", "--format=%R %D %c %t %G"]
USABLE_STATES = {"alloc", "idle", "mix", "comp", "resv", "plnd"}
"""Of a node that runs jobs, now or soon. Others are down, drained, in maintenance or lost."""


def srun_one_task_per_node(num_nodes: int) -> list[str]:
    """The words before a command that make each node of this allocation run it once."""
    return ["srun", f"--nodes={num_nodes}", f"--ntasks={num_nodes}", "--ntasks-per-node=1", "--overlap"]


def check_processes(allocation: Allocation, num_gpus: int, num_cores: int) -> str:
    """Compares the processes on a node with the GPUs, or without any the cores, of this machine.

    Raises:
        ConfigError: ranks would share GPUs.
    """
    per_node = allocation.processes_per_node
    if not allocation.has_this_machine:
        return str(allocation)
    if 0 < num_gpus < per_node:
        raise ConfigError(
            f"{per_node} processes on a node with {counted(num_gpus, 'GPU')}: ranks would share GPUs; "
            f"ask for {per_node} GPUs per node, or for {counted(num_gpus, 'process')}"
        )
    if num_gpus:
        return str(allocation)
    if num_cores < per_node:
        return f"{allocation}, on CPU; they will be slow, as this machine has {counted(num_cores, 'core')}"
    return f"{allocation}, on CPU"


def check_rendezvous(allocation: Allocation) -> str:
    """Checks that the address of the rendezvous resolves and that its port is free.

    Raises:
        ConfigError: one of them does not hold.
    """
    if allocation.world_size == 1:
        return "not needed for one process"
    if allocation.num_nodes > 1 and not allocation.is_granted:
        return "not known before the nodes are allocated; check again inside the allocation"
    address, port = rendezvous(allocation.num_nodes)
    accelerate_options(allocation.num_nodes, allocation.processes_per_node, address, port)  # may refuse it
    try:
        family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise refuse(
            "MASTER_ADDR", address, f"does not resolve ({error.strerror}); set it to an address that does"
        ) from error
    with socket.socket(family) as probe:
        probe.settimeout(3)
        if probe.connect_ex(target) == 0:
            raise refuse(
                "MASTER_PORT", port, "another program is listening on it; set MASTER_PORT to a free port"
            )
    return f"{address}:{port} is free"


def check_network(allocation: Allocation) -> str:
    """Asks each node through which of its network interfaces it reaches the first one.

    Raises:
        ConfigError: one has none, or not the one that GLOO_SOCKET_IFNAME names; or MASTER_ADDR leads nodes to
            themselves.
    """
    nodes = allocation.num_nodes
    if nodes == 1:
        return "not needed on one node"
    if not allocation.is_granted:
        return "not known before the nodes are allocated; check again inside the allocation"
    address, port = rendezvous(nodes)
    probe = [sys.executable, "-m", "lockstep.launch.network", address, str(port)]
    result = subprocess.run(
        [*srun_one_task_per_node(nodes), *probe], capture_output=True, text=True, timeout=PROBE_SECONDS
    )
    return network_of(result.stdout, address, nodes)


def network_of(answers: str, address: str, num_nodes: int) -> str:
    """What the nodes' answers mean: lines 'node ok INTERFACE' or 'node wrong REASON'.

    Raises: as `check_network`.
    """
    rows = [line.split(" ", 2) for line in answers.splitlines() if line.count(" ") >= 2]
    for node, state, what in rows:
        if state == "wrong":
            raise ConfigError(f"{node}: {what}")
    if len(rows) != num_nodes:
        raise ConfigError(f"only {len(rows)} of {counted(num_nodes, 'node')} answered")
    # SLURM can run several of its nodes on one machine, which then reaches itself.
    if len({node for node, _, what in rows if what.startswith("lo")}) > 1:
        raise refuse("MASTER_ADDR", address, "points each node at itself; set it to the first node's address")
    return ", ".join(f"{node} by {what}" for node, what in sorted({(node, what) for node, _, what in rows}))


def check_world_size(allocation: Allocation, num_gpus: int, num_cores: int) -> str:
    """Starts the processes with accelerate and counts them, without training.

    Some ways to launch several processes exit with 0 although each process is in a world of its own.

    Raises:
        ConfigError: not all processes started, or not in one world.
    """
    num_nodes = allocation.num_nodes if allocation.is_granted else 1
    per_node = allocation.processes_per_node
    world_size = num_nodes * per_node
    if not allocation.has_this_machine:
        return f"{allocation.world_size}, not tried: this machine is not one of those that would train"
    if per_node > max(num_gpus, num_cores):
        return f"{allocation.world_size}, not tried: this machine has {counted(num_cores, 'core')}"
    options = shlex.join(accelerate_options(num_nodes, per_node, *rendezvous(num_nodes)))
    if num_nodes > 1:
        options += " --machine_rank $SLURM_NODEID"
    # This interpreter's own accelerate: its virtual environment need not be on the PATH.
    accelerate = f"{shlex.quote(sys.executable)} -m accelerate.commands.launch"
    # One write per line, as lines of several processes may be mixed.
    probe = f"{accelerate} {options} --no_python sh -c 'echo \"world ${{WORLD_SIZE:-1}}.\"'"
    command = ["bash", "-c", probe]
    if num_nodes > 1:
        command = [*srun_one_task_per_node(num_nodes), *command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    sizes = [word.split(".")[0] for word in result.stdout.split("world ")[1:]]
    if sizes != [str(world_size)] * world_size:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(
            f"{counted(world_size, 'process')} requested, {len(sizes)} started, with world sizes "
            f"{', '.join(sizes) or '-'} ({last}); look for a default_config.yaml of accelerate, and use one "
            "of the commands below"
        )
    return f"{counted(world_size, 'process')} started in one world"


def check_slurm(allocation: Allocation) -> str:
    """Checks that SLURM answers and that a partition has the nodes.

    Raises:
        ConfigError: one of them does not hold.
    """
    missing = [name for name in ("sbatch", "srun", "scontrol", "sinfo") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"no {', '.join(missing)} on the PATH; log in to a node of the cluster")
    # Text: the layout of `sinfo --json` is not the same in SLURM 22.05 and 24.11, and it needs a plugin.
    result = subprocess.run(SINFO_WORDS, capture_output=True, text=True, timeout=PROBE_SECONDS)
    if result.returncode != 0:
        raise ConfigError(f"slurmctld does not answer: {result.stderr.strip()}")
    return fitting_partitions(result.stdout, allocation)


def fitting_partitions(sinfo: str, allocation: Allocation) -> str:
    """Names the partitions with enough nodes that have a GPU for each process, or a CPU if no node has GPUs.

    Args:
        sinfo: lines 'partition nodes cpus state gres', such as 'big 4 96 idle gpu:a100:8(S:0-1)'.
        allocation: what is needed.

    Raises:
        ConfigError: there is none.
    """
    rows = [line.split(maxsplit=4) for line in sinfo.splitlines()]
    has_gpus = any(gpus_per_node(gres) for *_, gres in rows)
    num_nodes: dict[str, int] = {}
    for partition, nodes, cpus, state, gres in rows:
        # A sign after the state is about power or a planned reboot; only * says that a node does not answer.
        is_usable = state.rstrip("~#!%$@^-") in USABLE_STATES
        units = gpus_per_node(gres) if has_gpus else number(cpus.rstrip("+"))
        if is_usable and units >= allocation.processes_per_node:
            num_nodes[partition] = num_nodes.get(partition, 0) + number(nodes)
    fitting = [partition for partition, nodes in num_nodes.items() if nodes >= allocation.num_nodes]
    unit = counted(allocation.processes_per_node, "GPU" if has_gpus else "CPU")
    needed = f"{counted(allocation.num_nodes, 'node')} with {unit}"
    if not fitting:
        raise ConfigError(f"no partition has {needed} in use or idle; {shlex.join(SINFO_WORDS)} lists all")
    return f"{needed}: partition {' or '.join(fitting)}"


def gpus_per_node(gres: str) -> int:
    """The GPUs in a node's generic resources, such as 'gpu:a100:8(S:0-1),nvme:1'. 'gpu' alone is one."""
    entries = [entry.split(":") for entry in re.sub(r"\([^)]*\)", "", gres).split(",")]
    counts = [words[-1] if words[-1][:1].isdigit() else "1" for words in entries if words[0] == "gpu"]
    return sum(number(count) for count in counts)


def number(text: str) -> int:
    """A number as SLURM writes it: '8', or '2K' for 2048."""
    digits = text.rstrip("KMG")
    return int(digits) * 1024 ** " KMG".index(text[len(digits) :] or " ")
