"""`lockstep doctor`: finds what would stop a run, before it waits in a queue. One line per check."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lockstep.config import Config, parse_config, take_option
from lockstep.errors import EXIT_FAILED, ConfigError, counted, require
from lockstep.launch import Allocation, launch_commands, num_cores, read_allocation
from lockstep.launch.checks import (
    PROBE_SECONDS,
    check_processes,
    check_rendezvous,
    check_slurm,
    check_world_size,
    srun_one_task_per_node,
)
from lockstep.plan import window_for_reduction
from lockstep.runs import run_path
from lockstep.tracking import ask_server, server_url, wandb_mode

HELP = """usage: lockstep doctor [--slurm] [--nodes N] [--processes-per-node M] [OPTIONS]

Checks, before a run waits in a queue, what would stop it. OPTIONS are those of `lockstep train`.
--slurm also checks the cluster: inside an allocation all of its nodes, otherwise the partitions.
By default, N and M are those of the allocation, or outside of one, a process for each GPU of this machine.
Exit code 1 if a check failed, otherwise 0.
"""
EXTRA_CHECKPOINTS = 2
"""Checkpoints beyond train.keep_checkpoints: the best one, and the one that is being written."""


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
        config = parse_config(options.flags)
    except ConfigError as error:
        return report_wrong("settings", error)
    try:
        allocation = planned_allocation(options, num_gpus)
    except ConfigError as error:
        return report_wrong("allocation", error)
    checks: dict[str, Callable[[], str]] = {
        "batch": lambda: check_batch(config, allocation.world_size),
        "processes": lambda: check_processes(allocation, num_gpus, num_cores()),
        "precision": lambda: check_device_precision(config, allocation, num_gpus),
        "rendezvous": lambda: check_rendezvous(allocation),
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


def take_count(argv: list[str], name: str) -> tuple[int, list[str]]:
    """Takes an option with a number out of argv: (the number, 0 if absent; the other words).

    Raises:
        ConfigError: it is not a whole number from 1 on.
    """
    value, rest = take_option(argv, name)
    is_count = not value or (value.isdecimal() and int(value) >= 1)
    require(is_count, name, value, "must be a whole number >= 1")
    return int(value or 0), rest


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


def check_batch(config: Config, world_size: int) -> str:
    """Checks that the global batch divides over the ranks.

    Raises:
        ConfigError: it does not.
    """
    batch = config.batch
    window = window_for_reduction(batch, config.reduction, world_size)
    ranks, micro_batches = counted(world_size, "rank"), counted(window, "micro-batch")
    return f"{batch.global_size} = {ranks} x {micro_batches} x {batch.micro_size}"


def check_device_precision(config: Config, allocation: Allocation, num_gpus: int) -> str:
    """Checks that the device of this machine supports the precision.

    Raises:
        ConfigError: it does not.
    """
    from lockstep.launch.precision import check_precision

    precision = config.precision
    if precision in ("auto", "no"):
        return precision
    if not allocation.has_this_machine and not num_gpus:
        return f"{precision}, not checked: this machine has no GPU, unlike those that would train"
    check_precision(precision, "cuda" if num_gpus else "cpu")
    return precision


def check_run_folder(config: Config, allocation: Allocation) -> str:
    """Checks that the run folder can be written, inside an allocation from all of its nodes.

    Raises:
        ConfigError: a node does not see it.
        OSError: it cannot be written from here.
    """
    Path(config.run.dir).mkdir(parents=True, exist_ok=True)
    num_nodes = allocation.num_nodes
    with tempfile.NamedTemporaryFile(dir=config.run.dir, prefix=".doctor-") as file:
        if not (allocation.is_slurm and allocation.is_granted):
            return f"{run_path(config)} can be written{' from this machine' if num_nodes > 1 else ''}"
        probe = f"test -w {shlex.quote(os.path.abspath(file.name))} && echo seen"
        num_seen = subprocess.run(
            [*srun_one_task_per_node(num_nodes), "sh", "-c", probe],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
        ).stdout.count("seen")
    rule = f"only {num_seen} of {num_nodes} nodes can write to it; choose a folder that all nodes share"
    require(num_seen == num_nodes, "run.dir", config.run.dir, rule)
    return f"{run_path(config)} can be written from {counted(num_nodes, 'node')}"


def check_disk_space(config: Config) -> str:
    """Checks that the checkpoints of a run fit on the disk.

    Raises:
        ConfigError: they do not.
    """
    from lockstep.trainer import find_task, model_of

    parameters = sum(parameter.numel() for parameter in model_of(find_task(config, None)[1]).parameters())
    # float32 weights, and Adam's two moments of each.
    needed = 3 * 4 * parameters * (config.train.keep_checkpoints + EXTRA_CHECKPOINTS)
    free = shutil.disk_usage(config.run.dir).free
    needs = f"checkpoints need about {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
    rule = f"{needs}; free some, lower train.keep_checkpoints, or choose another folder"
    require(free >= needed, "run.dir", config.run.dir, rule)
    return f"{needs} in {config.run.dir}"


def check_data(config: Config) -> str:
    """Checks that the data is there, and opens it.

    Raises:
        ConfigError: files are missing or damaged.
    """
    from lockstep.data import missing_files
    from lockstep.trainer import find_task, task_samples

    missing = [] if config.task.name else missing_files(config.data)
    if missing:
        names = ", ".join(path.name for path in missing)
        raise ConfigError(
            f"{names} not in {missing[0].parent}; where there is internet: "
            f"lockstep fetch --data.name {config.data.name} --data.root {shlex.quote(config.data.root)}"
        )
    config, task = find_task(config, None)
    train = task_samples(config, task, "train")  # looks at all files, and at MNIST's checksums
    num_test = 0 if task.test is None else len(task_samples(config, task, "test"))
    storage = "" if config.task.name else f", intact; {config.data.storage} during training"
    return f"{task.name}, {len(train)} + {num_test} samples{storage}"


def check_wandb(config: Config) -> str:
    """Checks that W&B can be used in the mode that the settings ask for.

    Raises:
        ConfigError: there is no key, or the server does not answer.
    """
    mode = wandb_mode(config.tracking.mode)
    if mode == "offline":
        return f"offline; later, on a machine with internet, run: lockstep sync {run_path(config)}"
    if mode == "online":
        try:
            ask_server()
        except OSError as error:
            raise ConfigError(
                f"tracking.mode = {config.tracking.mode!r}: a key was found, but {server_url()} does not "
                f"answer ({error}); use --tracking.mode offline"
            ) from error
        return "online, a key was found, the server answers"
    return mode
