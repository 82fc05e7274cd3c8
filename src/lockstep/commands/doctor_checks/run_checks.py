"""The checks of `lockstep doctor` that concern the run: its batch, precision, folder, data and W&B."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from lockstep.commands.doctor_checks.launch_checks import PROBE_SECONDS, srun_one_task_per_node
from lockstep.config import Config
from lockstep.errors import ConfigError, counted, require
from lockstep.launch import Allocation
from lockstep.plan import micro_sizes, window_for_reduction
from lockstep.runs import run_path
from lockstep.tracking import ask_server, server_url, sync_command, wandb_mode

EXTRA_CHECKPOINTS = 2
"""Checkpoints beyond train.keep_checkpoints: the best one, and the one that is being written."""


def check_batch(config: Config, world_size: int) -> str:
    """Checks that the global batch divides over the ranks.

    Raises:
        ConfigError: it does not.
    """
    batch = config.batch
    window = window_for_reduction(batch, config.reduction, world_size)
    ranks, micro_batches = counted(world_size, "rank"), counted(window, "micro-batch")
    size: int | str = batch.micro_size
    if size == "auto":
        size = f"{micro_sizes(batch, config.reduction, world_size)[0]} at most (auto)"
    return f"{batch.global_size} = {ranks} x {micro_batches} x {size}"


def check_device_precision(precision: str, allocation: Allocation, num_gpus: int) -> str:
    """Checks that the device of this machine supports the precision.

    Raises:
        ConfigError: it does not.
    """
    from lockstep.launch.precision import check_precision

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
    from torch.nn.parameter import is_lazy

    from lockstep.trainer import find_task, model_of

    model = model_of(find_task(config, None)[1])
    parameters = sum(parameter.numel() for parameter in model.parameters() if not is_lazy(parameter))
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
    # Looks at all files, and at MNIST's checksums.
    train = task_samples(task, "train", config.data, config.seed)
    num_test = 0 if task.test is None else len(task_samples(task, "test", config.data, config.seed))
    storage = "" if config.task.name else f", intact; {config.data.in_use} during training"
    return f"{task.name}, {len(train)} + {num_test} samples{storage}"


def check_wandb(config: Config) -> str:
    """Checks that W&B can be used in the mode that the settings ask for.

    Raises:
        ConfigError: there is no key, or the server does not answer.
    """
    mode = wandb_mode(config.tracking.mode)
    if mode == "offline":
        command = sync_command(run_path(config), config.tracking)
        return f"offline; later, on a machine with internet, run: {command}"
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
