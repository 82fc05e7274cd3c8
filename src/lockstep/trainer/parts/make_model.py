"""Makes a task's model on every rank, the same on all of them, and gives it weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lockstep.config import Config
from lockstep.data import Samples, seed_generators
from lockstep.errors import ConfigError, require
from lockstep.launch import making
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import Task, call_model, evaluating, is_instance


class ModelSetting(NamedTuple):
    """The setting that says which model is trained, for messages."""

    field: str
    value: str


def model_setting(config: Config, task: Task) -> ModelSetting:
    """The setting that says which model a task has."""
    if config.task.name:
        return ModelSetting("task.model", task.name)
    return ModelSetting("model.name", config.model.name)


def make_model(task: Task, setting: ModelSetting, seed: int, ranks: Ranks) -> tuple[nn.Module, str]:
    """The model on the device, made under the run's seed; and of one given as an instance the SHA-256.

    Raises:
        ConfigError: on every rank, if it cannot be trained, or is not the same on all ranks.
    """

    def make() -> nn.Module:
        seed_generators(ranks.device, seed, "model")
        with making("the model"):
            model = model_of(task)
        check_loss(task)
        check_model(setting.field, model)
        return model

    model, is_given = ranks.on_all(make), is_instance(task.model)
    if has_lazy_parameters(model):
        rule = "has lazy parameters; give a function that makes it"
        ranks.on_all(lambda: require(not is_given, "task.model", type(model).__name__, rule))
        return model.to(ranks.device), ""
    digest = weights_sha256(model.state_dict()) if is_given or ranks.world_size > 1 else ""
    check_equal(ranks, digest, "task.model", "the initial weights")
    for part in (task.loss, *task.metrics.values(), task.augment):
        if isinstance(part, nn.Module):
            part.to(ranks.device)
    return model.to(ranks.device), digest if is_given else ""


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


def check_loss(task: Task) -> None:
    """Checks that a loss has no parameters of its own: they would not be trained.

    Raises:
        ConfigError: it has.
    """
    if isinstance(task.loss, nn.Module):
        is_fixed = not any(parameter.requires_grad for parameter in task.loss.parameters())
        rule = "has parameters, which no optimizer would train; put them into the model"
        require(is_fixed, "task.loss", type(task.loss).__name__, rule)


def has_lazy_parameters(model: nn.Module) -> bool:
    """Whether a model has parameters whose shape its first forward decides, as nn.LazyLinear has."""
    return any(is_lazy(parameter) for parameter in model.parameters())


def materialise(model: nn.Module, train: Samples, seed: int) -> None:
    """Gives lazy parameters their shapes and, under the run's seed, their values.

    The forward runs in evaluation mode, so that it leaves the statistics of BatchNorm alone.

    Raises:
        ConfigError: the forward does not use one of them.
    """
    inputs, _ = train.read(torch.arange(min(2, len(train))))
    seed_generators(next(model.parameters()).device, seed, "lazy parameters")
    with evaluating(model), torch.no_grad(), making("the model"):
        call_model(model, inputs)
    for name, parameter in model.named_parameters():
        rule = f"{name!r} is lazy, and the forward does not use it, so it has no shape; remove it or use it"
        require(not is_lazy(parameter), "task.model", type(model).__name__, rule)


def set_weights(setting: ModelSetting, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Gives a task's model the weights of its run, a state dict; lazy parameters get their shapes from it.

    Raises:
        ConfigError: they do not fit.
    """
    state = model.state_dict()
    fits = state.keys() == weights.keys() and all(
        is_lazy(state[name]) or state[name].shape == value.shape for name, value in weights.items()
    )
    rule = "does not fit the weights of the checkpoint, which are of another model; leave it as it was"
    require(fits, *setting, rule)
    model.load_state_dict(weights, strict=True)


def check_equal(ranks: Ranks, value: object, field: str, what: str) -> None:
    """Checks that something has the same value on all ranks, which must call it.

    Raises:
        ConfigError: on every rank, if it has not.
    """
    values = ranks.gather_objects(value)
    differing = [rank for rank, each in enumerate(values) if each != values[0]]
    if differing:
        if field == "data.name":
            remedy = "the files, or what the function returns, must be the same in every process"
            raise ConfigError(f"{field}: {what} of rank {differing[0]} and of rank 0 differ; {remedy}")
        raise ConfigError(
            f"{field}: {what} of rank {differing[0]} and of rank 0 differ; give a function, which every "
            "process calls under the same seeds, and draw in it from Python's, NumPy's or torch's global "
            "generators alone"
        )
