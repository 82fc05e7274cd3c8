"""From what a user names or hands over to the task of a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from lockstep.config import (
    PROGRAM,
    Config,
    TaskConfig,
    check_arguments,
    import_reference,
    source_file,
)
from lockstep.data import ImageFacts, build_transforms, seed_generators
from lockstep.engine import check_schedule_name, optimizer_kind
from lockstep.errors import refuse, require
from lockstep.runs import DATASET_FILE, TO_SCORE, read_facts, run_settings
from lockstep.task import Task, image_classification_task


def with_task(config: Config, task: Task | str | None) -> Config:
    """The config of a run of a task: with the task's name or reference, and where it comes from.

    Args:
        config: how the task is trained.
        task: made by the caller; or 'package.module:function'; or None: what `config.task` says.

    Raises:
        ConfigError: the config names another task.
    """
    if task is None:
        return config
    name = task if isinstance(task, str) else task.name
    rule = f"must be empty or {name!r}, the task that is given; leave it out"
    require(config.task.name in ("", name), "task.name", config.task.name, rule)
    source = "" if isinstance(task, str) else source_of(PROGRAM)
    return replace(config, task=TaskConfig(name=name, args=config.task.args, source=source))


def settings_of_run(
    folder: Path,
    task: Task | str | None,
    *,
    data_root: Path | str = "",
    imports: Collection[str] = TO_SCORE,
    uses: Collection[str] = ("data.root",),
) -> Config:
    """The settings of the run in a folder, whose task a program hands over or names; see `run_settings`.

    Raises:
        ConfigError: it is not a run folder, the run is of another task, or it names code that is not
            imported.
    """
    needed = [each for each in imports if each != "task.name" or task is None]  # the caller has named it
    flags = [f"--data.root={data_root}"] if data_root else []
    return with_task(run_settings(folder, flags, imports=needed, uses=uses), task)


def find_task(config: Config, given: Task | None, folder: Path | None = None) -> tuple[Config, Task]:
    """The task of a run, and the config with the task's source.

    Args:
        config: the settings.
        given: the task, if a program hands it over.
        folder: of the run: what was measured on its images when it began.

    Raises:
        ConfigError: it cannot be made, or only the script that made it can make it again.
    """
    name = config.task.name
    if given is not None:
        rule = "are for a task that is named by reference, and this one is given itself; leave them out"
        require(not config.task.args, "task.args", config.task.args, rule)
        return config, given
    if not name:
        return config, image_classification_task(config, measured_facts(folder))
    if ":" not in name:
        # An old run's source ends with a SHA-256.
        made_in = config.task.source.partition(" sha256:")[0] or "a notebook"
        raise refuse(
            "task.name",
            name,
            f"was made in {made_in}; pass it to lockstep.train, replay, evaluate or load there, or start a "
            "new run with --task package.module:function",
        )
    function = import_reference("task.name", name)
    rule = "is not a function that returns a lockstep.Task"
    require(callable(function), "task.name", name, rule)
    check_arguments("task.args", function, config.task.args)
    seed_generators(torch.device("cpu"), config.seed, "task")
    task = function(**config.task.args)
    require(isinstance(task, Task), "task.name", name, rule)
    source = source_of(name.partition(":")[0])
    return replace(config, task=replace(config.task, source=source)), task


def check_names(config: Config) -> None:
    """Checks what the settings name, before any data is fetched or read.

    Raises:
        ConfigError: there is no such optimizer, schedule or transform, or it does not take its arguments.
    """
    optimizer_kind(config.optimizer)
    check_schedule_name(config.schedule)
    build_transforms(config.data.transforms)


def measured_facts(folder: Path | None) -> ImageFacts | None:
    """What was measured on the training images of the run in a folder; None if nothing was."""
    facts = read_facts(folder / DATASET_FILE) if folder else None
    return ImageFacts.from_json(facts) if facts else None


def source_of(module: str) -> str:
    """A module's file, from the current folder if it lies in it; empty if it has none, as in a notebook."""
    file = source_file(module)
    if file is None:
        return ""
    path = file.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
