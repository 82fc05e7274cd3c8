"""The optimizers that a config can name: torch's own, with bare methods, and a user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lockstep.config import TORCH_OPTIMIZERS, OptimizerConfig, import_reference
from lockstep.engine.optimizer.optimizer_formulas import Formula, adam, adamw, sgd
from lockstep.errors import require

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
    bare["step"] = torch.no_grad()(bare["step"])
    return type(kind.__name__, (kind,), bare)


def _unwrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method without those of torch's wrappers that are known."""
    return inspect.unwrap(method, stop=lambda each: each.__code__.co_qualname not in TORCH_WRAPPERS)


@dataclass(frozen=True, kw_only=True)
class OptimizerKind:
    """An optimizer that a config can name."""

    make: type[torch.optim.Optimizer]
    """Its class."""
    formula: Formula | None = None
    """The update by plain arithmetic, to check the class against; None if there is none to compare with."""
    text: str = ""
    """The formula as `lockstep explain` shows it."""


WITH_FORMULA = {
    "sgd": (sgd, "θ - η·v, v = μ·v + ∇θ + λ·θ, in float32"),
    "adam": (adam, "θ - η·m̂/(√v̂ + ε) with λ·θ added to ∇θ, in float64"),
    "adamw": (adamw, "(1 - η·λ)·θ - η·m̂/(√v̂ + ε), in float64"),
}
"""Optimizer → its update by plain arithmetic, and the formula as `lockstep explain` shows it."""
_FORMULAS_HOLD_WITH = {"eps", "foreach", "capturable"}
"""The arguments that leave an optimizer's formula as it is, or that the formula reads."""
_TORCHS_OWN = {name.lower(): kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}

OPTIMIZERS = {
    name: OptimizerKind(
        make=without_compiler(_TORCHS_OWN[name]),
        formula=WITH_FORMULA.get(name, (None, ""))[0],
        text=WITH_FORMULA.get(name, (None, ""))[1],
    )
    for name in TORCH_OPTIMIZERS
    if name in _TORCHS_OWN  # an older torch has fewer
}
"""Name → torch's optimizer."""


def optimizer_kind(config: OptimizerConfig) -> OptimizerKind:
    """The optimizer that the config names, without a formula if its arguments change the update.

    Raises:
        ConfigError: a user's class cannot be imported, is not an optimizer, or cannot be used in a step.
    """
    if ":" not in config.name:
        rule = f"is not in torch {torch.__version__}; use a newer torch or another optimizer"
        require(config.name in OPTIMIZERS, "optimizer.name", config.name, rule)
        kind = OPTIMIZERS[config.name]
        return kind if config.args.keys() <= _FORMULAS_HOLD_WITH else replace(kind, formula=None, text="")
    make = import_reference("optimizer.name", config.name)
    is_optimizer = isinstance(make, type) and issubclass(make, torch.optim.Optimizer)
    rule = "is not a subclass of torch.optim.Optimizer; name one"
    require(is_optimizer, "optimizer.name", config.name, rule)
    rule = "is for sparse gradients, which are not summed over ranks; use another with dense ones"
    require(not issubclass(make, torch.optim.SparseAdam), "optimizer.name", config.name, rule)
    closure = inspect.signature(make.step).parameters.get("closure")
    rule = "its step needs a closure, but a step here computes each loss once; use another"
    needs_closure = closure is not None and closure.default is inspect.Parameter.empty
    require(not needs_closure, "optimizer.name", config.name, rule)
    rule = (
        "needs an optimizer that updates each parameter from its own gradient and state alone, and skips one "
        f"without; if {make.__name__} does, state is_per_parameter = True in the class"
    )
    is_fit = not config.sharded or getattr(make, "is_per_parameter", False)
    require(is_fit, "optimizer.sharded", config.sharded, rule)
    return OptimizerKind(make=make)
