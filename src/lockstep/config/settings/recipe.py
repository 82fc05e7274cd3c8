"""The part of the config tree that says what is computed: batch, model, loss, optimizer, schedule.

A name that a user can choose stands in two places: here, where it is checked without torch, and in the table
that implements it (MODELS, LOSSES, OPTIMIZERS, SCHEDULES). A test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from lockstep.config.choices import check_choice, check_unused
from lockstep.config.keyword_arguments import plain_arguments
from lockstep.errors import require

BUILT_IN_MODELS = ("cnn", "cnn-strided", "cnn-deep", "cnn-gru", "mlp", "rnn", "rnn-orthogonal")

LOSS_SETTINGS: dict[str, tuple[str, ...]] = {"cross-entropy": ("label_smoothing", "class_weights"), "mse": ()}
"""Loss → the settings that it uses and some other loss does not."""
SCHEDULE_SETTINGS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "one-cycle": ("warmup",),
    "cosine": ("warmup",),
    "linear": ("warmup",),
}
"""Schedule → the settings that it uses and some other schedule does not."""


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """The samples of one optimizer step."""

    global_size: int = 256
    """Samples per optimizer step, over all ranks."""
    micro_size: int | Literal["auto"] = 32
    """Samples per forward and backward pass on one rank. How many passes a rank makes per step (gradient
    accumulation) is derived: global_size / (micro_size * ranks). auto: the largest power of two that fits
    into the memory, up to global_size / 8; the run keeps it."""
    eval_size: int = 250
    """Samples per forward pass of an evaluation."""

    def __post_init__(self) -> None:
        for name in ("global_size", "eval_size"):
            require(getattr(self, name) >= 1, f"batch.{name}", getattr(self, name), "must be >= 1 sample")
        if self.micro_size == "auto":
            return
        is_size = isinstance(self.micro_size, int) and self.micro_size >= 1
        require(is_size, "batch.micro_size", self.micro_size, "must be >= 1 sample, or auto")
        lower = self.global_size // self.micro_size * self.micro_size
        sizes = " or ".join(str(size) for size in (lower, lower + self.micro_size) if size)
        require(
            self.global_size % self.micro_size == 0,
            "batch.global_size",
            self.global_size,
            f"must be a multiple of batch.micro_size = {self.micro_size}; {sizes} would work",
        )

    @property
    def micro_samples(self) -> int:
        """`micro_size` once it is a number: 'auto' is replaced by one before a run is planned."""
        assert self.micro_size != "auto", "still to be found"
        return self.micro_size


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    name: str = "cnn"
    """Built in: cnn, cnn-strided, cnn-deep, cnn-gru, mlp, rnn and rnn-orthogonal. Or a classifier of
    torchvision, such as torchvision:resnet18. Or your own, as 'package.module:Class' or a function that
    returns the model: a torch.nn.Module that maps images (batch, 1, 28, 28) to logits (batch, 10); for other
    data, of its shape and number of classes."""
    dropout: float = 0.0
    """Probability that dropout sets a unit before the last layer to 0. For built-in models."""
    args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the model's constructor, such as '--model.args.width 64'. Values are read as YAML."""
    init_from: str = ""
    """Initial weights from elsewhere, for fine-tuning: RUN, RUN:best, RUN:ema, a checkpoint,
    FILE.safetensors or wandb:[ENTITY/]PROJECT/NAME:ALIAS. '--init-from X' is short for it."""
    init_partial: bool = False
    """With model.init_from, take what fits by name and shape, and list the rest. Off: all must fit."""
    average_buffers: tuple[str, ...] = ()
    """Buffers, by name or pattern ('codebook.*'), that may be averaged over micro-batches. Those of batch,
    instance and spectral normalization need not be named."""
    sometimes_used: tuple[str, ...] = ()
    """Parameters, by name or pattern ('experts.*'), that only some micro-batches use, if the
    trials before step 1 do not show it."""

    def __post_init__(self) -> None:
        rule = "is for model.init_from, which is not set; leave it out"
        require(bool(self.init_from) or not self.init_partial, "model.init_partial", self.init_partial, rule)
        if ":" not in self.name:
            own = ", or 'torchvision:NAME', or your own as 'package.module:Class'"
            check_choice("model.name", self.name, BUILT_IN_MODELS, alternative=own)
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "must be in [0, 1); 0 turns it off")
        require(
            self.name in BUILT_IN_MODELS or self.dropout == 0,
            "model.dropout",
            self.dropout,
            "is for built-in models; see model.args, or put torch.nn.Dropout into yours",
        )
        object.__setattr__(self, "args", plain_arguments("model.args", self.args))


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to the training images, keyed by (seed, epoch, sample id). All at 0: no augmentation."""

    shift_pixels: int = 0
    """Shift by up to this many whole pixels in each direction."""
    rotate_degrees: float = 0.0
    """Rotate by up to this many degrees either way."""
    scale: float = 0.0
    """Enlarge or shrink by up to this fraction, such as 0.1."""
    cutout_pixels: int = 0
    """Blank out a square with sides of this many pixels."""

    crop_pixels: int = 0
    """Pad each side by this many pixels of the mean colour, and cut a part of the image's own size out at
    random."""
    flip: bool = False
    """Mirror half of the images, left to right."""

    def __post_init__(self) -> None:
        limits = {"shift_pixels": inf, "rotate_degrees": 180, "scale": 0.9, "cutout_pixels": inf}
        for name, limit in {**limits, "crop_pixels": inf}.items():
            value = getattr(self, name)
            limits_rule = "must be >= 0" if limit == inf else f"must be in [0, {limit}]"
            require(0 <= value <= limit, f"augment.{name}", value, f"{limits_rule}; 0 turns it off")

    def check_size(self, size: int) -> None:
        """Checks what is stated in pixels against images of `size` x `size` pixels.

        Raises:
            ConfigError: an image would be moved or blanked out altogether.
        """
        limits = {"shift_pixels": size // 2, "cutout_pixels": size, "crop_pixels": size}
        for name, limit in limits.items():
            value = getattr(self, name)
            rule = f"must be in [0, {limit}], as the images have {size} x {size} pixels; 0 turns it off"
            require(value <= limit, f"augment.{name}", value, rule)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss of a sample."""

    name: str = "cross-entropy"
    """cross-entropy, or mse: the mean squared error between the outputs and the one-hot label. Or a loss of
    torch, such as torch.nn:HuberLoss. Or your own, as 'package.module:function', from outputs and labels."""
    label_smoothing: float = 0.0
    """Fraction of the target that is spread evenly over all classes (cross-entropy only)."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the mean, as torch defines it (cross-entropy only). Empty: all equal."""
    args: dict[str, Any] = field(default_factory=dict)
    """Arguments of a loss of torch or your own, such as '--loss.args.delta 0.5'. Values are read as YAML."""

    def __post_init__(self) -> None:
        if ":" not in self.name:
            own = ", or 'torch.nn:NAME', or your own as 'package.module:function'"
            check_choice("loss.name", self.name, LOSS_SETTINGS, alternative=own)
        name, value = "loss.label_smoothing", self.label_smoothing
        require(0 <= value < 1, name, value, "must be in [0, 1); 0 turns it off")
        weights = self.class_weights
        is_valid = all(0 <= weight < inf for weight in weights) and (not weights or max(weights) > 0)
        require(is_valid, "loss.class_weights", weights, "must be finite weights >= 0, and not all 0")
        check_unused(self, "loss", "name", LOSS_SETTINGS)
        object.__setattr__(self, "args", plain_arguments("loss.args", self.args))
        rule = (
            f"are for losses of torch and your own, and {self.name} has settings of its own; leave them out"
        )
        require(":" in self.name or not self.args, "loss.args", self.args, rule)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate as a pure function of the step."""

    name: str = "one-cycle"
    """one-cycle: up, then down, both along a cosine. cosine, linear: linear warm-up, then down along a cosine
    or a line. Or constant. Or your own, as 'package.module:function', from (step, number of steps) to the
    factor."""
    warmup: float = 0.3
    """Fraction of all steps in which the rate goes up (not with constant)."""

    def __post_init__(self) -> None:
        if ":" not in self.name:
            own = ", or your own as 'package.module:function'"
            check_choice("schedule.name", self.name, SCHEDULE_SETTINGS, alternative=own)
        rule = "must be a fraction of the run in [0, 1)"
        require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, rule)
        check_unused(self, "schedule", "name", SCHEDULE_SETTINGS)
