"""The optimizer of a run, gradient clipping, and the learning rates of a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.config import OPTIMIZER_SETTINGS, OptimizerConfig, argument_names, check_arguments
from lockstep.engine.optimizer.optimizer_kinds import optimizer_kind
from lockstep.engine.optimizer.parameter_groups import (
    groups_by_module,
    groups_of_task,
    without_decay_of_vectors,
)
from lockstep.errors import refuse, require, short_message

FUSED = ("sgd", "adam", "adamw")
"""The optimizers that run in one kernel for all parameters; torch's other ones choose for themselves."""


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    fused: bool | None,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> torch.optim.Optimizer:
    """An optimizer over the model's parameter groups. Freezes the parameters that no group contains.

    Each group has a `name` and its peak learning rate as `base_lr`. lr and weight_decay go to a class that
    takes them. An error in the constructor of a user's class is its author's to fix and keeps its traceback.

    Args:
        model: whose parameters are trained.
        config: the settings.
        fused: torch's own argument, for those optimizers that Lockstep uses fused; None lets torch choose.
        groups: a task's own parameter groups, in place of optimizer.groups; see `groups_of_task`.

    Raises:
        ConfigError: a group is wrong, or the class does not take an argument or needs another one.
    """
    make = optimizer_kind(config).make
    is_torchs = ":" not in config.name
    names = argument_names(make)
    arguments = {name: getattr(config, name) for name in OPTIMIZER_SETTINGS.get(config.name, ())}
    arguments |= {
        name: getattr(config, name) for name in ("lr", "weight_decay") if names is None or name in names
    }
    if is_torchs and config.name in FUSED:
        arguments["fused"] = fused
    decays = "weight_decay" in arguments
    rule = f"{make.__name__} has no weight decay; leave it at 0"
    require(decays or config.weight_decay == 0, "optimizer.weight_decay", config.weight_decay, rule)
    rule = f"{make.__name__} has no weight decay; leave it out"
    require(decays or not config.no_decay, "optimizer.no_decay", config.no_decay, rule)
    # Groups that are fused skip a step on the device, others do not, so this is not for a user to set.
    reserved = {"params", *arguments, *(("fused",) if is_torchs else ())}
    check_arguments("optimizer.args", make, config.args, reserved=reserved)
    own = groups_by_module(model, config) if groups is None else groups_of_task(model, groups, make, config)
    if config.no_decay:
        own = without_decay_of_vectors(own)
    trained = {id(parameter) for group in own for parameter in group["params"]}
    for parameter in model.parameters():
        if id(parameter) not in trained:
            parameter.requires_grad_(False)
    try:
        made = make(own, **arguments, **config.args)
    except (RuntimeError, TypeError, ValueError) as error:
        if not is_torchs:
            raise
        rule = f"torch refuses it with this model and these settings ({short_message(error)})"
        raise refuse("optimizer.name", config.name, f"{rule}; see optimizer.args") from error
    # Or the scaler of fp16 would call it in a skipped step too, and Accelerate take that for an update.
    made._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return made


def clip_gradients(parameters: list[nn.Parameter], max_norm: float, norm: torch.Tensor) -> None:
    """Scales the gradients of parameters so that their norm is at most max_norm.

    With the norm, this is torch's `clip_grad_norm_`, except that without a limit it does not multiply all
    gradients by 1. Accelerate's would import distributed tensors, which takes half a second.

    Args:
        parameters: whose gradients are scaled, where they have any.
        max_norm: the limit; inf: there is none.
        norm: of all gradients of the model together, (), as `Reduction.total_norm` gives it.
    """
    if max_norm < math.inf:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets the learning rate of each group to its peak rate times the factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group, factor)


@contextmanager
def rates_on_device(optimizer: torch.optim.Optimizer, rates: Sequence[torch.Tensor]) -> Iterator[None]:
    """Lets the groups of a fused optimizer read their learning rates, each (), from the device meanwhile."""
    before = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
        if "capturable" in group:
            group["capturable"] = True
    try:
        yield
    finally:
        for group, values in zip(optimizer.param_groups, before, strict=True):
            group.update(values)


def learning_rate(group: Mapping[str, Any], factor: float) -> float:
    """A group's peak rate times a factor. On CUDA it has float32's precision, which CUDA graphs give it."""
    rate = group["base_lr"] * factor
    return float(np.float32(rate)) if group["params"][0].is_cuda else rate
