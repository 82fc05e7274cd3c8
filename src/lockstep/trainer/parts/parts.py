"""What a task is made of in this process: its model, optimizer and data, checked before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lockstep.config import Config, OptimizerConfig, is_file
from lockstep.data import CONTENT, Samples, describe_data
from lockstep.engine import build_optimizer
from lockstep.errors import refuse, require
from lockstep.launch import making
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs import (
    DATASET_FILE,
    TASK_FILE,
    TaskFacts,
    read_facts,
    read_task_facts,
    to_json,
    write_atomically,
    write_task_facts,
)
from lockstep.task import Task
from lockstep.trainer.parts.make_model import (
    check_equal,
    has_lazy_parameters,
    make_model,
    materialise,
    model_setting,
)
from lockstep.trainer.parts.task_data import (
    check_lengths,
    data_field,
    differing_reads,
    read_data,
    read_validation,
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a task is made of, on the device of this process."""

    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: Samples
    test: Samples | None
    validation: Samples | None
    """The task's own validation data."""
    num_held_out: int
    """How many of the training samples are held out as validation data instead."""
    initial_weights: str
    """The SHA-256 of the weights of a model given as an instance; empty for one that a function makes."""
    data: dict[str, Any]
    """Name, sizes and digest of the data."""

    warnings: list[str] = field(default_factory=list)
    """What the user should know of the data before training."""


def make_parts(config: Config, task: Task, ranks: Ranks) -> Parts:
    """Makes the model, the optimizer, and then the data, which may take long. All ranks must call it.

    Raises:
        ConfigError: on every rank, if one of them cannot be made or is not the same on all ranks.
    """
    model, initial_weights = make_model(task, model_setting(config, task), config.seed, ranks)
    if has_lazy_parameters(model):
        train, test = read_data(task, config.data, config.seed, ranks)
        ranks.on_all(lambda: materialise(model, train, config.seed))
        optimizer = ranks.on_all(lambda: make_optimizer(task, model, config.optimizer))
    else:
        optimizer = ranks.on_all(lambda: make_optimizer(task, model, config.optimizer))
        train, test = read_data(task, config.data, config.seed, ranks)
    validation = read_validation(task, config.data, config.seed, ranks)
    check_lengths(ranks, train, test, validation)
    warnings = ranks.on_main(lambda: differing_reads(config.batch, config.reduction, train, test, validation))
    is_repeatable = not warnings
    data = ranks.on_all(
        lambda: describe_data(task.name, train, test, validation, is_repeatable=is_repeatable)
    )
    check_equal(ranks, data, data_field(train), "the data")
    return Parts(
        task=task,
        model=model,
        optimizer=optimizer,
        train=train,
        test=test,
        validation=validation,
        num_held_out=ranks.on_all(lambda: config.data.num_held_out(len(train))),
        initial_weights=initial_weights,
        data=data,
        warnings=warnings,
    )


def make_optimizer(task: Task, model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of a run.

    Raises:
        ConfigError: a setting of it is wrong.
    """
    # torch's fused optimizers take no complex parameters.
    fused = None if any(parameter.is_complex() for parameter in model.parameters()) else True
    with making("the optimizer"):
        groups = task.parameter_groups(model) if task.parameter_groups else None
        return build_optimizer(model, config, fused=fused, groups=groups)


def check_same_parts(parts: Parts, folder: Path) -> None:
    """Checks that model and data are those that the run in a folder began with, as far as that is known.

    Raises:
        ConfigError: they are not.
    """
    remedy = "give a function that makes it under the run's seed, or choose another run.name"
    before, now = read_task_facts(folder), task_facts(parts.task)
    if before.initial_weights and parts.initial_weights != before.initial_weights:
        kind = type(parts.model).__name__
        raise refuse("task.model", kind, f"run {str(folder)!r} began with different weights; {remedy}")
    check_same_data(parts, folder)
    for name in ("headline", "higher_is_better") if is_file(folder / TASK_FILE) else ():
        was, value = getattr(before, name), getattr(now, name)
        rule = f"run {str(folder)!r} began with {was!r}, and compares its checkpoints by it; keep it"
        require(value == was, f"task.{name}", value, rule)


def check_same_data(parts: Parts, folder: Path) -> None:
    """Checks that the data is that which the run in a folder began with, as far as that is known.

    Raises:
        ConfigError: it is not.
    """
    remedy = "use that data, or choose another run.name"
    before, now = read_facts(folder / DATASET_FILE), parts.data
    if before is not None:
        known = content_of(before)
        differing = [name for name in now if name != CONTENT and now[name] != before.get(name)]
        # A start of an older version has none of these digests, and one that kept the data elsewhere others.
        differing += [name for name, each in content_of(now).items() if known.get(name, each) != each]
        changed = ", ".join(differing)
        field = data_field(parts.train)
        if field == "data.name":
            remedy = "put the same images back, or choose another run.name"
        rule = f"run {str(folder)!r} began with different data ({changed} differ); {remedy}"
        require(not changed, field, now["name"], rule)


def content_of(facts: Mapping[str, Any] | None) -> dict[str, str]:
    """The digests of what data holds, by what each is of, in the facts that a run keeps of its data."""
    content = (facts or {}).get(CONTENT)
    return content if isinstance(content, dict) else {}


def write_parts(parts: Parts, folder: Path) -> None:
    """Writes what a later start compares its parts with, and what reports need to know of the task."""
    write_task_facts(folder, task_facts(parts.task, parts.initial_weights))
    content = content_of(read_facts(folder / DATASET_FILE)) | content_of(parts.data)
    data = parts.data | ({CONTENT: content} if content else {})
    write_atomically(folder / DATASET_FILE, to_json(data))


def task_facts(task: Task, initial_weights: str = "") -> TaskFacts:
    """What the run folder keeps of a task."""
    return TaskFacts(
        name=task.name,
        headline=task.headline,
        higher_is_better=task.higher_is_better,
        classes=tuple(task.classes),
        initial_weights=initial_weights,
    )
