"""torch's optimizers by name, parameter groups by module, and gradient clipping."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lockstep.config import OPTIMIZER_SETTINGS, OptimizerConfig
from lockstep.engine.optimizer_formulas import Formula, adam, adamw, sgd
from lockstep.errors import refuse

TORCH_WRAPPERS = {
    "_disable_dynamo.<locals>.inner",
    "_use_grad_for_differentiable.<locals>._use_grad",
    "Optimizer.profile_hook_step.<locals>.wrapper",
}
"""The wrappers that torch 2.15 puts around an optimizer's methods, by the qualified names of functions."""


def without_compiler(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimizer without the imports of torch.compile, which take more than a second of each start.

    In torch 2.15, `torch._disable_dynamo` wraps add_param_group, zero_grad, state_dict and load_state_dict,
    and `_use_grad_for_differentiable` wraps step. Both import torch._dynamo when called, to keep the compiler
    away from the method, and step's wrapper also turns gradients off. Nothing here compiles an optimizer, so
    the bare methods give the same bits, with `torch.no_grad` around step. torch's profiling wrapper, which an
    earlier instance of the class leaves around step, is removed too: the new class gets its own.

    In another version of torch, a method without a wrapper stays as it is, and so does one in a wrapper that
    is not listed in TORCH_WRAPPERS. Then the optimizer still works, and only its start may take longer.
    """
    methods = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    bare: dict[str, Any] = {name: _unwrapped(getattr(kind, name)) for name in methods}
    bare["zero_grad"] = _with_signature(bare["zero_grad"])
    bare["step"] = torch.no_grad()(bare["step"])
    return type(kind.__name__, (kind,), bare)


def _unwrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method without those of torch's wrappers that are known."""
    return inspect.unwrap(method, stop=lambda each: each.__code__.co_qualname not in TORCH_WRAPPERS)


def _with_signature(method: Callable[..., None]) -> Callable[..., None]:
    """The same method with its signature stored: Accelerate inspects that of `zero_grad` in every step."""

    @functools.wraps(method)
    def same(*arguments: Any, **options: Any) -> None:
        method(*arguments, **options)

    vars(same)["__signature__"] = inspect.signature(method)
    return same


@dataclass(frozen=True, kw_only=True)
class OptimizerKind:
    """An optimizer that a config can name. OPTIMIZER_SETTINGS says which settings it takes."""

    make: Any
    """Its class."""
    formula: Formula
    """The update by plain arithmetic, to check the class against."""
    text: str
    """The formula as `lockstep explain` shows it."""


OPTIMIZERS = {
    "sgd": OptimizerKind(
        make=without_compiler(torch.optim.SGD),
        formula=sgd,
        text="θ - η·v, v = μ·v + ∇θ + λ·θ, in float32",
    ),
    "adam": OptimizerKind(
        make=without_compiler(torch.optim.Adam),
        formula=adam,
        text="θ - η·m̂/(√v̂ + ε) with λ·θ added to ∇θ, in float64",
    ),
    "adamw": OptimizerKind(
        make=without_compiler(torch.optim.AdamW),
        formula=adamw,
        text="(1 - η·λ)·θ - η·m̂/(√v̂ + ε), in float64",
    ),
}
"""Name → the optimizer."""


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, *, fused: bool | None
) -> torch.optim.Optimizer:
    """An optimizer over the model's parameter groups. Freezes the parameters that no group contains.

    Each group has its module's name as `name` and its peak learning rate as `base_lr`. `fused` is torch's own
    argument; None lets torch choose.

    Raises:
        ConfigError: a group names something that is not a module of the model, or has no parameters.
    """
    settings = {name: getattr(config, name) for name in OPTIMIZER_SETTINGS[config.name]}
    return OPTIMIZERS[config.name].make(
        parameter_groups(model, config),
        lr=config.lr,
        weight_decay=config.weight_decay,
        fused=fused,
        **settings,
    )


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    """The groups in the config's order. A parameter belongs to the innermost module that is named.

    Raises:
        ConfigError: a group names something that is not a module of the model, or has no parameters.
    """
    rates = config.groups or {"": config.lr}
    names = dict(model.named_modules())
    for module in rates:
        if module not in names:
            valid = ", ".join(name for name in names if name)
            raise refuse("optimizer.groups", module, f"is not a module of this model; it has {valid}")
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
    """Scales the gradients of parameters so that their norm is at most max_norm.

    This is torch's `clip_grad_norm_`, except that without a limit it does not multiply all gradients by 1.
    Accelerate's would import distributed tensors, which takes half a second.

    Returns:
        The Euclidean norm of all gradients together before clipping, float32 ().
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm < math.inf:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets the learning rate of each group to its peak rate times the factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
