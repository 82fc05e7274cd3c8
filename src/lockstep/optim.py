"""Parameter groups by module, torch's optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from lockstep.config import OptimizerConfig, ScheduleConfig
from lockstep.errors import refuse

# OneCycleLR's defaults: the first rate is the peak / 25, the last is the first / 10 000.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def build_optimizer(model: nn.Module, config: OptimizerConfig, *, fused: bool) -> torch.optim.Optimizer:
    """An optimizer over the model's parameter groups; what no group names is frozen.

    Each group keeps its module's name as `name` and its peak rate as `base_lr`.

    Raises:
        ConfigError: a group names no module of the model, or one that has no parameters.
    """
    leave_compiler_out()
    groups = parameter_groups(model, config)
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return kind(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused)


def leave_compiler_out() -> None:
    """Keeps torch's optimizers from importing torch.compile's machinery: about a third of a start.

    torch wraps some of their methods so that a compiler leaves them alone, and imports the compiler for that
    at their first call, unless the method was wrapped before. Nothing here compiles an optimizer, so the bare
    method will do. Without effect in a version of torch that keeps it elsewhere.
    """
    for method in vars(torch.optim.Optimizer).values():
        bare = getattr(method, "__wrapped__", None)
        if bare is not None and not hasattr(bare, "__dynamo_disable"):
            bare.__dict__["__dynamo_disable"] = bare


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


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets each group's rate to its peak rate times the factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def lr_factor(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """What the peak rate is multiplied by in a step.

    Args:
        step: optimizer step, counted from 0.
        num_steps: steps of the whole run.
        config: one-cycle is Smith and Topin, "Super-convergence" (2017), as torch's OneCycleLR computes it.
    """
    if config.name == "constant":
        return 1.0
    if config.name == "cosine":
        warmup = config.warmup * num_steps
        if step + 1 <= warmup:
            return (step + 1) / warmup
        return _cosine(1.0, 0.0, (step - warmup) / (num_steps - warmup))
    peak, end = config.warmup * num_steps - 1, num_steps - 1
    if step <= peak:
        return _cosine(ONE_CYCLE_START, 1.0, step / peak if peak > 0 else 1.0)
    return _cosine(1.0, ONE_CYCLE_END, (step - peak) / (end - peak) if peak > 0 else step / max(end, 1))


def _cosine(start: float, end: float, part: float) -> float:
    """From start to end along half a cosine, for part from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(part, 0.0), 1.0))) / 2
