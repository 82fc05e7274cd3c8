"""The commands that start one run: the same processes by accelerate launch, torchrun, srun and sbatch."""

from __future__ import annotations

import shlex

from lockstep.errors import require
from lockstep.launch.launcher.allocation import Allocation
from lockstep.launch.launcher.rendezvous_address import rendezvous

SCRIPT = "scripts/train.py"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def accelerate_options(num_nodes: int, processes_per_node: int, address: str, port: int | str) -> list[str]:
    """The options of `accelerate launch` that are equal on all nodes: all but --machine_rank.

    Raises:
        ConfigError: on one node, the address is not the node's own: `accelerate launch` would ignore it.
    """
    num_processes = num_nodes * processes_per_node
    words = ["--num_machines", str(num_nodes), "--num_processes", str(num_processes)]
    # Stated, so that no default_config.yaml decides; Lockstep's own --precision sets the precision.
    words += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    if num_processes > 1:
        rule = "is for several nodes; on one node its processes meet on 127.0.0.1; unset MASTER_ADDR"
        require(num_nodes > 1 or address in LOOPBACK, "MASTER_ADDR", address, rule)
        # On CPUs too: without --multi_gpu accelerate starts one process a node, each in a world of its own.
        words += ["--multi_gpu", "--main_process_port", str(port)]
    if num_nodes > 1:
        words += ["--rdzv_backend", "static", "--main_process_ip", address]
    return words


def launch_commands(allocation: Allocation, flags: list[str], *, on_gpus: bool) -> dict[str, str]:
    """The commands that start the same run, by launcher.

    On several nodes, the commands of accelerate and torchrun must be run on each node, with its number.

    Args:
        allocation: the nodes and processes.
        flags: of `lockstep train`.
        on_gpus: whether each process gets a GPU.

    Raises:
        ConfigError: MASTER_ADDR or MASTER_PORT cannot be used.
    """
    words = shlex.join(flags)
    nodes, per_node = allocation.num_nodes, allocation.processes_per_node
    is_known = nodes == 1 or allocation.is_granted
    address, port = rendezvous(nodes) if is_known else ("ADDRESS", "PORT")
    node_rank = "$SLURM_NODEID" if is_known else "NODE"
    accelerate = shlex.join(accelerate_options(nodes, per_node, address, port))
    torchrun = f"--nnodes={nodes} --nproc_per_node={per_node}"
    if nodes > 1:
        accelerate += f" --machine_rank {node_rank}"
        torchrun += f" --node_rank={node_rank} --master_addr={address} --master_port={port}"
    gpus = f"--gpus-per-node={per_node} " if on_gpus else ""
    processes = f"--{'gpus' if on_gpus else 'ntasks'}-per-node={per_node}"
    commands = {
        "accelerate launch": f"accelerate launch {accelerate} {SCRIPT} {words}",
        "torchrun": f"torchrun {torchrun} {SCRIPT} {words}",
        "srun": f"srun --nodes={nodes} --ntasks-per-node={per_node} {gpus}python {SCRIPT} {words}",
        "sbatch": f"sbatch --nodes={nodes} {processes} slurm/train.sbatch {words}",
    }
    return {name: command.rstrip() for name, command in commands.items()}
