"""`lockstep doctor`: finds what would stop a run, before it waits in a queue. One line per check."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace

from lockstep.commands.doctor_checks.launch_checks import (
    check_network,
    check_processes,
    check_rendezvous,
    check_slurm,
    check_world_size,
)
from lockstep.commands.doctor_checks.run_checks import (
    check_batch,
    check_data,
    check_device_precision,
    check_disk_space,
    check_run_folder,
    check_wandb,
)
from lockstep.config import take_count
from lockstep.errors import EXIT_FAILED, ConfigError
from lockstep.launch import Allocation, launch_commands, num_cores, read_allocation
from lockstep.runs import read_config

HELP = """usage: lockstep doctor [--slurm] [--nodes N] [--processes-per-node M] [OPTIONS]

Checks, before a run waits in a queue, what would stop it. OPTIONS are those of `lockstep train`.
--slurm also checks the cluster: inside an allocation all of its nodes, otherwise the partitions.
By default, N and M are those of the allocation, or outside of one, a process for each GPU of this machine.
Exit code 1 if a check failed, otherwise 0.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line of doctor: its own options, a number 0 if it is not stated, and the run's flags."""

    num_nodes: int
    processes_per_node: int
    is_slurm: bool
    flags: list[str]


def doctor(argv: list[str]) -> int:
    """Runs the checks and prints the commands that start the run; 0 if all checks passed, else 1."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    import torch  # for the GPUs of this machine

    num_gpus = torch.cuda.device_count()
    options = read_options(argv)
    try:
        config = read_config(options.flags)
    except ConfigError as error:
        return report_wrong("settings", error)
    try:
        allocation = planned_allocation(options, num_gpus)
    except ConfigError as error:
        return report_wrong("allocation", error)
    checks: dict[str, Callable[[], str]] = {
        "batch": lambda: check_batch(config, allocation.world_size),
        "processes": lambda: check_processes(allocation, num_gpus, num_cores()),
        "precision": lambda: check_device_precision(config.precision, allocation, num_gpus),
        "rendezvous": lambda: check_rendezvous(allocation),
        "network": lambda: check_network(allocation),
        "world size": lambda: check_world_size(allocation, num_gpus, num_cores()),
        "run folder": lambda: check_run_folder(config, allocation),
        "disk space": lambda: check_disk_space(config),
        "data": lambda: check_data(config),
        "W&B": lambda: check_wandb(config),
    }
    if allocation.is_slurm:
        checks = {"SLURM": lambda: check_slurm(allocation), **checks}
    num_failed = sum(not run_check(name, check) for name, check in checks.items())
    on_gpus = num_gpus > 0 or not allocation.has_this_machine
    try:
        commands = launch_commands(allocation, options.flags, on_gpus=on_gpus)
    except ConfigError as error:
        return report_wrong("commands", error)
    print("\nCommands that start this run:")
    for launcher, command in commands.items():
        print(f"  {launcher + ':':19}{command}")
    return EXIT_FAILED if num_failed else 0


def read_options(argv: list[str]) -> Options:
    """Splits argv into doctor's own options and the flags of the run.

    Raises:
        ConfigError: a number is wrong.
    """
    num_nodes, rest = take_count(argv, "--nodes")
    per_node, rest = take_count(rest, "--processes-per-node")
    flags = [word for word in rest if word != "--slurm"]
    return Options(num_nodes=num_nodes, processes_per_node=per_node, is_slurm="--slurm" in rest, flags=flags)


def planned_allocation(options: Options, num_gpus: int) -> Allocation:
    """The nodes and processes to check: as stated, else those granted, else one node with all of its GPUs.

    Raises:
        ConfigError: `read_allocation` refuses what SLURM granted.
    """
    per_node = options.processes_per_node
    allocation = read_allocation(processes_per_node=per_node)
    if allocation is None:
        allocation = Allocation(num_nodes=1, processes_per_node=per_node or max(1, num_gpus))
    num_nodes = options.num_nodes or allocation.num_nodes
    return replace(allocation, num_nodes=num_nodes, is_slurm=options.is_slurm)


def run_check(name: str, check: Callable[[], str]) -> bool:
    """Runs a check and prints its line; whether it passed."""
    try:
        print(f"ok     {name}: {check()}", flush=True)
    except (ConfigError, OSError, subprocess.SubprocessError) as error:
        report_wrong(name, error)
        return False
    return True


def report_wrong(name: str, error: Exception) -> int:
    """Prints the line of a check that failed; doctor's exit code."""
    print(f"WRONG  {name}: {' '.join(str(error).split())}", flush=True)
    return EXIT_FAILED
