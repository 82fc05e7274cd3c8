"""The part of the config tree that says how weights are updated. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lockstep.config.choices import check_choice, check_unused
from lockstep.config.keyword_arguments import plain_arguments
from lockstep.errors import require

TORCH_OPTIMIZERS = (
    *("sgd", "adam", "adamw", "adadelta", "adafactor", "adagrad", "adamax", "asgd", "muon", "nadam", "radam"),
    *("rmsprop", "rprop"),
)
"""The optimizers of torch.optim, by their lower-case names. A test holds this equal to torch's own list."""
UNFIT = {
    "lbfgs": "its step needs a closure, but a step here computes each loss once; use another",
    "sparseadam": "is for sparse gradients, which are not summed over ranks; use adam with dense ones",
}
"""The other optimizers of torch.optim → why a run cannot use them."""
OPTIMIZER_SETTINGS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    **dict.fromkeys(("adam", "adamw", "adamax", "nadam", "radam"), ("betas",)),
}
"""Optimizer → the settings that it uses and some other optimizer does not; the defaults fit these only."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer, and which module learns at which rate."""

    name: str = "adam"
    """A class of torch.optim in lower case, such as adam, adamw, sgd or rmsprop, or your own as
    'package.module:Class'. adam, adamw and sgd are fused."""
    lr: float = 0.005
    """Peak learning rate, which the schedule multiplies. With optimizer.groups, each group has its own."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two moments (adam, adamw, adamax, nadam and radam only)."""
    momentum: float = 0.9
    """SGD's momentum (sgd only)."""
    weight_decay: float = 0.0
    """Weight decay as the optimizer defines it: an L2 penalty for sgd and adam, decoupled for adamw."""
    no_decay: bool = False
    """No weight decay for parameters with fewer than two dimensions: biases and normalization weights."""
    args: dict[str, Any] = field(default_factory=dict)
    """More arguments of the optimizer's class, such as '--optimizer.args.eps 1e-6', read as YAML."""
    max_grad_norm: float = math.inf
    """Clip the norm of the whole gradient to this, after summing over ranks and unscaling. inf: only measure
    the norm."""
    sharded: bool = False
    """Each rank updates a part of the parameters and has the optimizer's state of these alone (ZeRO-1). The
    bits are the same; it needs exact reduction."""
    groups: dict[str, float] = field(default_factory=dict)
    """Parameter groups: pairs of a module's name and its learning rate, such as 'cnn 0.001 gru 0.01'. Modules
    that are not named are not trained. Empty: train the whole model at optimizer.lr."""

    def __post_init__(self) -> None:
        if ":" not in self.name:
            require(self.name not in UNFIT, "optimizer.name", self.name, UNFIT.get(self.name, ""))
            own = ", or your own as 'package.module:Class'"
            check_choice("optimizer.name", self.name, TORCH_OPTIMIZERS, alternative=own)
        rates = {"lr": self.lr, **{f"groups[{module}]": rate for module, rate in self.groups.items()}}
        for name, rate in rates.items():
            require(0 < rate < math.inf, f"optimizer.{name}", rate, "must be a finite rate > 0")
        for beta in self.betas:
            require(0 <= beta < 1, "optimizer.betas", self.betas, "must be in [0, 1); torch's are 0.9 0.999")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "must be in [0, 1)")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "must be >= 0")
        require(
            self.max_grad_norm > 0,
            "optimizer.max_grad_norm",
            self.max_grad_norm,
            "must be > 0; inf measures the norm without clipping",
        )
        check_unused(self, "optimizer", "name", OPTIMIZER_SETTINGS, "; others take theirs in optimizer.args")
        object.__setattr__(self, "args", plain_arguments("optimizer.args", self.args))
        for name in ("lr", "weight_decay", *OPTIMIZER_SETTINGS.get(self.name, ())):
            rule = f"has a setting of its own; state it as optimizer.{name}"
            require(name not in self.args, f"optimizer.args.{name}", self.args.get(name), rule)
        rule = f"is not used with optimizer.groups, which have their own rates; leave it at {type(self).lr}"
        require(not self.groups or self.lr == type(self).lr, "optimizer.lr", self.lr, rule)
