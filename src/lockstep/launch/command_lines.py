"""The commands that start one run: the same processes by accelerate launch, torchrun, srun and sbatch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from lockstep.launch.rendezvous import rendezvous

SCRIPT = "scripts/train.py"


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Where the run would be started."""

    nodes: int
    per_node: int
    is_slurm: bool
    in_allocation: bool
    gpus: int
    """Of this machine."""

    @property
    def world_size(self) -> int:
        return self.nodes * self.per_node

    @property
    def is_here(self) -> bool:
        """Whether this machine is one of those that would train."""
        return self.in_allocation or not self.is_slurm


def launcher_words(nodes: int, per_node: int, meeting: tuple[str, int | str], rank_of_node: str) -> str:
    """The words after `accelerate launch`; the same as in slurm/train.sbatch."""
    words = f"--num_machines {nodes} --num_processes {nodes * per_node}"
    words += " --mixed_precision no --dynamo_backend no"
    if nodes * per_node == 1:
        return words
    address, port = meeting
    words += f" --multi_gpu --main_process_port {port}"
    if nodes == 1:
        return words
    return f"{words} --rdzv_backend static --main_process_ip {address} --machine_rank {rank_of_node}"


def launch_commands(allocation: Allocation, flags: list[str]) -> dict[str, str]:
    """The same run by each launcher; on several nodes the first two must be run on each, with its number."""
    words = shlex.join(flags)
    nodes, per_node = allocation.nodes, allocation.per_node
    known = nodes == 1 or allocation.in_allocation
    meeting = rendezvous(nodes) if known else ("ADDRESS", "PORT")
    rank_of_node = "$SLURM_NODEID" if known else "NODE"
    accelerate = launcher_words(nodes, per_node, meeting, rank_of_node)
    torchrun = f"--nnodes={nodes} --nproc_per_node={per_node}"
    if nodes > 1:
        torchrun += f" --node_rank={rank_of_node} --master_addr={meeting[0]} --master_port={meeting[1]}"
    kind = "ntasks" if allocation.is_here and not allocation.gpus else "gpus"
    gpus = "" if kind == "ntasks" else f"--gpus-per-node={per_node} "
    found = {
        "accelerate launch": f"accelerate launch {accelerate} {SCRIPT} {words}",
        "torchrun": f"torchrun {torchrun} {SCRIPT} {words}",
        "srun": f"srun --nodes={nodes} --ntasks-per-node={per_node} {gpus}python {SCRIPT} {words}",
        "sbatch": f"sbatch --nodes={nodes} --{kind}-per-node={per_node} slurm/train.sbatch {words}",
    }
    return {name: command.rstrip() for name, command in found.items()}
