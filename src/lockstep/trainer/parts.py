"""What a task is made of in this process: its model, optimizer and data, checked before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lockstep.config import Config
from lockstep.data import ImageSamples, Samples, describe_data, samples_of, seed_generators
from lockstep.engine import build_optimizer
from lockstep.errors import ConfigError, refuse, require
from lockstep.launch.ranks import Ranks
from lockstep.runs import DATASET_FILE, TaskFacts, read_task_facts, write_atomically, write_task_facts
from lockstep.runs.checkpoint import weights_sha256
from lockstep.task import Task, call_model, is_instance

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a task is made of, on the device of this process."""

    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: Samples
    test: Samples | None
    initial_weights: str
    """The SHA-256 of the weights of a model given as an instance; empty for one that a function makes."""
    data: dict[str, Any] | None
    """Name, sizes and digest of the data; None for digits, whose files are checked as they are opened."""

    def describe(self) -> dict[str, Any]:
        """Name, sizes and digest of the data, whatever it is."""
        return self.data or describe_data(self.task.name, self.train, self.test)


def make_parts(config: Config, task: Task, ranks: Ranks) -> Parts:
    """Makes the model, the optimizer, and then the data, which may take long. All ranks must call it.

    Raises:
        ConfigError: on every rank, if one of them cannot be made or is not the same on all ranks.
    """
    model, initial_weights = make_model(config, task, ranks)
    if has_lazy_parameters(model):
        train, test = read_data(config, task, ranks)
        ranks.on_all(lambda: materialise(config, task, model, train))
        optimizer = ranks.on_all(lambda: make_optimizer(config, task, model))
    else:
        optimizer = ranks.on_all(lambda: make_optimizer(config, task, model))
        train, test = read_data(config, task, ranks)
    data = None
    if not isinstance(train, ImageSamples) or train.facts is not None:
        data = ranks.on_all(lambda: describe_data(task.name, train, test))
        check_equal(ranks, data, "data.name" if train.description() else "task.train", "the data")
    return Parts(
        task=task,
        model=model,
        optimizer=optimizer,
        train=train,
        test=test,
        initial_weights=initial_weights,
        data=data,
    )


def make_model(config: Config, task: Task, ranks: Ranks) -> tuple[nn.Module, str]:
    """The model on the device, made under the run's seed; and of one given as an instance the SHA-256.

    Raises:
        ConfigError: on every rank, if it is none that can be trained, or not the same on all ranks.
    """

    def make() -> nn.Module:
        seed_generators(ranks.device, config.seed, "model")
        model = model_of(task)
        check_model((config.task.name and "task.model") or "model.name", model)
        return model

    model = ranks.on_all(make)
    digest = ""
    if is_instance(task.model):
        rule = "has lazy parameters; give a function that makes it"
        lazy = has_lazy_parameters(model)
        ranks.on_all(lambda: require(not lazy, "task.model", type(model).__name__, rule))
        digest = weights_sha256(model.state_dict())
        check_equal(ranks, digest, "task.model", "the initial weights")
    return model.to(ranks.device), digest


def model_of(task: Task) -> nn.Module:
    """The model of a task: as it was given, or as its function makes it."""
    model: Any = task.model
    return model if is_instance(model) else model()


def check_model(field: str, model: Any) -> None:
    """Checks what can be known of a model without running it.

    Raises:
        ConfigError: it cannot be trained, or not with the same bits on any number of ranks.
    """
    kind = type(model).__name__
    require(isinstance(model, nn.Module), field, kind, "must be, or make, a torch.nn.Module")
    is_trainable = any(parameter.requires_grad for parameter in model.parameters())
    require(is_trainable, field, kind, "has no parameters to train; set requires_grad on some")
    for layer, module in model.named_modules():
        rule = f"{layer!r} is a SyncBatchNorm, whose statistics depend on the ranks; use BatchNorm"
        require(not isinstance(module, nn.SyncBatchNorm), field, kind, rule)
    for key, value in model.state_dict().items():
        rule = f"{key!r} in its state_dict is a {type(value).__name__}; a checkpoint holds tensors only"
        require(isinstance(value, Tensor), field, kind, rule)


def has_lazy_parameters(model: nn.Module) -> bool:
    """Whether a model has parameters whose shape its first forward decides, as nn.LazyLinear has."""
    return any(is_lazy(parameter) for parameter in model.parameters())


def materialise(config: Config, task: Task, model: nn.Module, train: Samples) -> None:
    """Gives lazy parameters their shapes and, under the run's seed, their values.

    The forward runs in evaluation mode, so that it leaves the statistics of BatchNorm alone.

    Raises:
        ConfigError: the forward does not use one of them.
    """
    inputs, _ = train.read(torch.arange(min(2, len(train))))
    modes = [(module, module.training) for module in model.modules()]
    seed_generators(next(model.parameters()).device, config.seed, "lazy parameters")
    with torch.no_grad():
        call_model(model.eval(), inputs)
    for module, mode in modes:
        module.training = mode
    for name, parameter in model.named_parameters():
        rule = f"{name!r} is lazy, and the forward does not use it, so it has no shape; remove it or use it"
        require(not is_lazy(parameter), "task.model", type(model).__name__, rule)


def make_optimizer(config: Config, task: Task, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a run.

    Raises:
        ConfigError: a setting of it is wrong.
    """
    # A fused optimizer skips an overflowed step inside its kernel, where Accelerate cannot see or count it.
    # torch's fused optimizers take no complex parameters.
    is_complex = any(parameter.is_complex() for parameter in model.parameters())
    fused = None if config.precision == "fp16" or is_complex else True
    groups = task.parameter_groups(model) if task.parameter_groups else None
    return build_optimizer(model, config.optimizer, fused=fused, groups=groups)


def read_data(config: Config, task: Task, ranks: Ranks) -> tuple[Samples, Samples | None]:
    """The training and test data on the device, made under the run's seed, on one process of a node first.

    Raises:
        ConfigError: on every rank, if the data cannot be fetched or read.
    """

    train = first_on_each_node(ranks, lambda: task_samples(config, task, "train"))
    if task.test is None:
        return train.to(ranks.device), None
    test = first_on_each_node(ranks, lambda: task_samples(config, task, "test"))
    return train.to(ranks.device), test.to(ranks.device)


def task_samples(config: Config, task: Task, which: Literal["train", "test"]) -> Samples:
    """The training or test data of a task, made under the run's seed; missing files are fetched.

    Raises:
        ConfigError: it cannot be fetched or read.
    """
    data = getattr(task, which)
    seed_generators(torch.device("cpu"), config.seed, f"{which} data")
    made = data if is_instance(data) else data()
    return samples_of(f"task.{which}", made, config.seed, task.collate)


def first_on_each_node(ranks: Ranks, action: Callable[[], T]) -> T:
    """Runs an action on one process of each node, which may download files, then on the others."""
    is_first = ranks.accelerator.is_local_main_process
    done: list[T] = []
    ranks.on_all(lambda: done.append(action()) if is_first else None)
    ranks.on_all(lambda: None if is_first else done.append(action()))
    return done[0]


def check_equal(ranks: Ranks, value: object, field: str, what: str) -> None:
    """Checks that something has the same value on all ranks, which must call it.

    Raises:
        ConfigError: on every rank, if it has not.
    """
    values = ranks.gather_objects(value)
    differing = [rank for rank, each in enumerate(values) if each != values[0]]
    if differing:
        remedy = "give a function, which is called under the run's seed in every process"
        if field == "data.name":
            remedy = "the files, or what the function returns, must be the same in every process"
        raise ConfigError(f"{field}: {what} of rank {differing[0]} and of rank 0 differ; {remedy}")


def check_same_parts(parts: Parts, folder: Path) -> None:
    """Checks that model and data are those that the run in a folder began with, as far as that is known.

    Raises:
        ConfigError: they are not.
    """
    remedy = "give a function that makes it under the run's seed, or choose another run.name"
    weights = read_task_facts(folder).initial_weights
    if weights and parts.initial_weights != weights:
        kind = type(parts.model).__name__
        raise refuse("task.model", kind, f"run {str(folder)!r} began with other weights; {remedy}")
    path = folder / DATASET_FILE
    if parts.data is not None and path.exists():
        before, now = json.loads(path.read_text()), parts.data
        changed = ", ".join(name for name in now if now[name] != before.get(name))
        field = "task.train"
        if parts.train.description():  # images that the data settings name
            field, remedy = "data.name", "put the same images back, or choose another run.name"
        rule = f"run {str(folder)!r} began with other data ({changed} differ); {remedy}"
        require(not changed, field, now["name"], rule)


def write_parts(parts: Parts, folder: Path) -> None:
    """Writes what a later start compares its parts with, and what reports need to know of the task."""
    write_task_facts(folder, task_facts(parts.task, parts.initial_weights))
    if parts.data is not None:
        write_atomically(folder / DATASET_FILE, json.dumps(parts.data))


def task_facts(task: Task, initial_weights: str = "") -> TaskFacts:
    """What the run folder keeps of a task."""
    return TaskFacts(
        name=task.name,
        headline=task.headline,
        higher_is_better=task.higher_is_better,
        classes=tuple(task.classes),
        initial_weights=initial_weights,
    )
