"""The part of the config tree that says what is computed: batch, network, criterion, optimizer, schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lockstep.config.digits import IMAGE_SIZE
from lockstep.errors import require


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What one optimizer step is made of."""

    global_size: int = 256
    """Samples of one optimizer step, over all ranks."""
    micro_size: int = 32
    """Samples of one forward/backward on one rank; the window is derived: global / (micro * ranks)."""

    def __post_init__(self) -> None:
        for name, value in (("batch.global_size", self.global_size), ("batch.micro_size", self.micro_size)):
            require(value >= 1, name, value, "must be >= 1 sample")
        lower = self.global_size // self.micro_size * self.micro_size
        sizes = " or ".join(str(size) for size in (lower, lower + self.micro_size) if size)
        require(
            self.global_size % self.micro_size == 0,
            "batch.global_size",
            self.global_size,
            f"must be a multiple of batch.micro_size = {self.micro_size}; {sizes} would work",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    name: str = "cnn"
    """cnn, cnn-strided, cnn-gru, mlp, rnn or rnn-orthogonal; or your own as 'package.module:Class', a
    torch.nn.Module whose constructor takes no arguments, from images (batch, 1, 28, 28) to logits
    (batch, 10)."""
    dropout: float = 0.0
    """Part of the units before the last layer that is dropped, keyed by (seed, step, sample id)."""

    def __post_init__(self) -> None:
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "must be in [0, 1); 0 turns it off")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training images, keyed by (seed, epoch, sample id). All at 0: none."""

    shift_pixels: int = 0
    """Move by up to so many whole pixels in each direction."""
    rotate_degrees: float = 0.0
    """Turn by up to so many degrees either way."""
    scale: float = 0.0
    """Grow or shrink by up to this part, such as 0.1."""
    cutout_pixels: int = 0
    """Blank a square with this side."""

    def __post_init__(self) -> None:
        limits = {
            "shift_pixels": IMAGE_SIZE // 2,
            "rotate_degrees": 180,
            "scale": 0.9,
            "cutout_pixels": IMAGE_SIZE,
        }
        for name, most in limits.items():
            value = getattr(self, name)
            require(0 <= value <= most, f"augment.{name}", value, f"must be in [0, {most}]; 0 turns it off")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The criterion."""

    name: Literal["cross-entropy", "mse"] = "cross-entropy"
    """'mse' is the mean squared error between the ten outputs and the one-hot label."""
    label_smoothing: float = 0.0
    """Part of the target spread evenly over all classes (cross-entropy only)."""

    def __post_init__(self) -> None:
        name, value = "loss.label_smoothing", self.label_smoothing
        require(0 <= value < 1, name, value, "must be in [0, 1); 0 turns it off")
        fits = self.name == "cross-entropy" or value == 0
        require(fits, name, value, "is for loss.name = 'cross-entropy'; with 'mse' leave it at 0")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """torch.optim, and which module learns at which rate."""

    name: Literal["sgd", "adam", "adamw"] = "adam"
    """torch.optim's SGD, Adam or AdamW; fused, but in fp16, where a fused one hides an overflow."""
    lr: float = 0.005
    """Peak learning rate; the schedule multiplies it. Where there are groups, they have the rates."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two moments (adam and adamw only)."""
    momentum: float = 0.9
    """SGD's momentum (sgd only)."""
    weight_decay: float = 0.0
    """L2 penalty for sgd and adam, decoupled decay for adamw."""
    max_grad_norm: float = math.inf
    """Clip the global gradient norm to this, after the sum over ranks and unscaling. inf: measure only."""
    groups: dict[str, float] = field(default_factory=dict)
    """Module name and its own learning rate, pair by pair: 'cnn 0.001 gru 0.01'. A module that no group names
    is not updated. Empty: one group, all of the model, at optimizer.lr."""

    def __post_init__(self) -> None:
        for name, rate in {
            "lr": self.lr,
            **{f"groups[{key}]": lr for key, lr in self.groups.items()},
        }.items():
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
        for name, is_used, purpose in (
            ("lr", not self.groups, "a model without optimizer.groups, which have the rates"),
            ("betas", self.name != "sgd", "adam and adamw"),
            ("momentum", self.name == "sgd", "sgd"),
        ):
            value, default = getattr(self, name), getattr(OptimizerConfig, name)
            fits = is_used or value == default
            require(fits, f"optimizer.{name}", value, f"is for {purpose}; leave it at {default}")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate as a pure function of the step."""

    name: Literal["constant", "one-cycle", "cosine"] = "one-cycle"
    """one-cycle: up and down again, both along a cosine. cosine: linear warm-up, then down along a cosine."""
    warmup: float = 0.3
    """Part of all steps spent going up (one-cycle and cosine)."""

    def __post_init__(self) -> None:
        require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "must be a part of the run in [0, 1)")
        default = ScheduleConfig.warmup
        fits = self.name != "constant" or self.warmup == default
        require(fits, "schedule.warmup", self.warmup, f"is for one-cycle and cosine; leave it at {default}")
