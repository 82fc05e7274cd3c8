"""`lockstep doctor`: what would go wrong in the queue, found before it. A line for each check."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lockstep.config import Config, parse_config
from lockstep.errors import ConfigError, refuse
from lockstep.launch import Allocation, launch_commands, num_cores, read_allocation
from lockstep.launch.checks import (
    PROBE_SECONDS,
    check_processes,
    check_rendezvous,
    check_slurm,
    check_world_size,
    srun_one_task_per_node,
)
from lockstep.plan import window_length
from lockstep.runs import run_path
from lockstep.tracking import ask_server, server_url, wandb_mode

HELP = """usage: lockstep doctor [--slurm] [--nodes N] [--processes-per-node M] [OPTIONS]

Checks, before a run waits in a queue, what would stop it. OPTIONS are those of `lockstep train`.
--slurm checks the cluster too: inside an allocation all of its nodes, else what the partitions have.
Without --nodes and --processes-per-node: what the allocation says, else one process for each GPU here.
The exit code is 1 if a check failed, else 0.
"""
CHECKPOINTS_BESIDES = 2
"""Checkpoints beyond train.keep_checkpoints: the best one, and the one being written."""


def doctor(argv: list[str]) -> int:
    """Prints the checks and the commands; 0 if all is well, else 1."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    allocation, flags = read_options(argv)
    try:
        config = parse_config(flags)
    except ConfigError as error:
        print(f"WRONG  settings: {error}")
        return 1
    checks: dict[str, Callable[[], str]] = {
        "batch": lambda: check_batch(config, allocation.world_size),
        "processes": lambda: check_processes(allocation, num_cores()),
        "precision": lambda: check_precision(config, allocation),
        "rendezvous": lambda: check_rendezvous(allocation),
        "world size": lambda: check_world_size(allocation),
        "run folder": lambda: check_run_folder(config, allocation),
        "disk space": lambda: check_disk_space(config),
        "data": lambda: check_data(config),
        "W&B": lambda: check_wandb(config),
    }
    if allocation.is_slurm:
        checks = {"SLURM": lambda: check_slurm(allocation), **checks}
    num_wrong = sum(not run_check(name, check) for name, check in checks.items())
    print("\nThe same run, started by")
    for name, command in launch_commands(allocation, flags).items():
        print(f"  {name + ':':19}{command}")
    return 1 if num_wrong else 0


def read_options(argv: list[str]) -> tuple[Allocation, list[str]]:
    """Takes doctor's own options out of argv: (allocation, the flags of the run)."""
    own = {"--nodes": 0, "--processes-per-node": 0}
    flags, words = [], iter(argv)
    for word in words:
        name, has_value, value = word.partition("=")
        if name in own:
            value = value if has_value else next(words, "")
            if not value.isdecimal() or int(value) < 1:
                raise refuse(name, value, "must be a whole number >= 1")
            own[name] = int(value)
        elif word != "--slurm":
            flags.append(word)
    import torch  # for device facts

    gpus = torch.cuda.device_count()
    allocation = read_allocation()
    nodes, per_node = allocation or (1, max(1, gpus))
    return Allocation(
        nodes=own["--nodes"] or nodes,
        per_node=own["--processes-per-node"] or per_node,
        is_slurm="--slurm" in argv,
        in_allocation=allocation is not None,
        gpus=gpus,
    ), flags


def run_check(name: str, check: Callable[[], str]) -> bool:
    """Runs a check and prints its line."""
    try:
        print(f"ok     {name}: {check()}", flush=True)
    except (ConfigError, OSError, subprocess.SubprocessError) as error:
        print(f"WRONG  {name}: {' '.join(str(error).split())}", flush=True)
        return False
    return True


def check_batch(config: Config, world_size: int) -> str:
    window = window_length(config.batch, world_size, exact=config.reduction == "exact")
    batch = config.batch
    return f"{batch.global_size} = {world_size} ranks x {window} micro-batches x {batch.micro_size}"


def check_precision(config: Config, allocation: Allocation) -> str:
    from lockstep.launch.process_group import check_precision

    precision = config.precision
    if precision in ("auto", "no") or not (allocation.is_here or allocation.gpus):
        return (
            f"{precision}"
            if allocation.is_here
            else f"{precision}; the nodes' GPUs cannot be asked from here"
        )
    check_precision(precision, "cuda" if allocation.gpus else "cpu")
    return precision


def check_run_folder(config: Config, allocation: Allocation) -> str:
    Path(config.run.dir).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=config.run.dir, prefix=".doctor-") as file:
        if not (allocation.is_slurm and allocation.in_allocation):
            return f"{run_path(config)} can be written{' from here' if allocation.nodes > 1 else ''}"
        probe = f"test -w {shlex.quote(os.path.abspath(file.name))} && echo seen"
        seen = subprocess.run(
            [*srun_one_task_per_node(allocation.nodes), "sh", "-c", probe],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
        ).stdout.count("seen")
    if seen != allocation.nodes:
        raise refuse(
            "run.dir",
            config.run.dir,
            f"{seen} of {allocation.nodes} nodes see it; name a folder that all share",
        )
    return f"{run_path(config)} can be written from all {seen} nodes"


def check_disk_space(config: Config) -> str:
    from lockstep.models import build_model

    parameters = sum(parameter.numel() for parameter in build_model(config.model, config.seed).parameters())
    # float32 weights, and for each of them Adam's two moments.
    needed = 3 * 4 * parameters * (config.train.keep_checkpoints + CHECKPOINTS_BESIDES)
    free = shutil.disk_usage(config.run.dir).free
    text = f"checkpoints need about {needed / 1e6:.0f} MB of {free / 1e6:.0f} MB free in {config.run.dir}"
    if free < needed:
        raise ConfigError(f"{text}; free some, lower train.keep_checkpoints, or name another run.dir")
    return text


def check_data(config: Config) -> str:
    from lockstep.data import load_dataset, missing_files

    missing = missing_files(config.data)
    if missing:
        names = ", ".join(path.name for path in missing)
        raise ConfigError(
            f"{names} not in {missing[0].parent}; where there is internet: "
            f"lockstep fetch --data.name {config.data.name} --data.root {shlex.quote(config.data.root)}"
        )
    dataset = load_dataset(config.data, config.seed)  # looks at all files, and at MNIST's checksums
    sizes = f"{len(dataset.train)} + {len(dataset.test)} samples"
    return f"{config.data.name}, {sizes}, intact; {config.data.storage} in training"


def check_wandb(config: Config) -> str:
    mode = wandb_mode(config.tracking.mode)
    if mode == "offline":
        return f"offline; later, where there is internet: lockstep sync {run_path(config)}"
    if mode == "online":
        try:
            ask_server()
        except OSError as error:
            raise ConfigError(
                f"a key was found, but {server_url()} does not answer ({error}); use --tracking.mode offline"
            ) from error
        return "online, a key was found, the server answers"
    return mode
