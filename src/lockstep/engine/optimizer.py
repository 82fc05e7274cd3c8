"""Parameter groups by module, torch's optimizers, and clipping."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lockstep.config import OptimizerConfig
from lockstep.errors import refuse


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, *, fused: bool | None
) -> torch.optim.Optimizer:
    """An optimizer over the model's parameter groups; what no group names is frozen.

    Each group keeps its module's name as `name` and its peak rate as `base_lr`. `fused` is torch's own, where
    None lets it choose.

    Raises:
        ConfigError: a group names no module of the model, or one that has no parameters.
    """
    groups = parameter_groups(model, config)
    kind: Any = KINDS[config.name]
    if config.name == "sgd":
        return kind(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
        )
    return kind(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused)


def without_compiler(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimizer, which does not import torch.compile's machinery: more than a second of each start.

    torch wraps the methods of its optimizers so that a compiler leaves them alone, and the wrappers import
    the compiler for that. Nothing here compiles an optimizer, so the bare methods will do.
    """
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in wrapped}
    bare["zero_grad"] = _with_signature(bare["zero_grad"])
    step = torch.no_grad()(inspect.unwrap(kind.step))  # what the wrapper of `step` does besides
    return type(kind.__name__, (kind,), {**bare, "step": step})


def _with_signature(method: Callable[..., None]) -> Callable[..., None]:
    """The same method with its signature made beforehand: Accelerate asks `zero_grad` for it each step."""

    @functools.wraps(method)
    def same(*arguments: Any, **options: Any) -> None:
        method(*arguments, **options)

    vars(same)["__signature__"] = inspect.signature(method)
    return same


KINDS = {
    "sgd": without_compiler(torch.optim.SGD),
    "adam": without_compiler(torch.optim.Adam),
    "adamw": without_compiler(torch.optim.AdamW),
}


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    """The groups in the config's order; a parameter goes to the innermost module that is named."""
    rates = config.groups or {"": config.lr}
    names = dict(model.named_modules())
    for module in rates:
        if module not in names:
            valid = ", ".join(name for name in names if name)
            raise refuse("optimizer.groups", module, f"is no module of this model; it has {valid}")
    members: dict[str, list[nn.Parameter]] = {module: [] for module in rates}
    for name, parameter in model.named_parameters():
        owners = [module for module in rates if not module or name.startswith(f"{module}.")]
        if owners:
            members[max(owners, key=len)].append(parameter)
        else:
            parameter.requires_grad_(False)
    for module in rates:
        if not members[module]:
            raise refuse("optimizer.groups", module, "has no parameters of its own; name another module")
    return [
        {"params": members[module], "lr": rate, "base_lr": rate, "name": module or "model"}
        for module, rate in rates.items()
    ]


def clip_grad_norm(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scales the gradients of parameters down to a norm; returns the norm from before, float32 ().

    It is torch's `clip_grad_norm_` without the pass over memory that multiplies by 1 where there is no limit.
    Accelerate's would import half a second of code for distributed tensors.
    """
    norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if max_norm < math.inf:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets each group's rate to its peak rate times the factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
