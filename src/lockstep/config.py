"""The whole run as one tree of frozen dataclasses: what a user can state, with units and checks.

The command line, the YAML files, the copy in the run folder and `wandb.config` are all this tree. A field's
docstring is its help text. This module imports no torch, so that `--help` and every refusal are quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lockstep.errors import require


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run folder."""

    name: str = ""
    """Folder under run.dir; starting again with the same name resumes. Empty: derived from the settings that
    define the run, so that the same command continues the same run."""
    dir: str = "runs"
    """Where run folders live; for several nodes, a folder that all of them see."""

    def __post_init__(self) -> None:
        is_one_name = "/" not in self.name and self.name not in (".", "..")
        require(is_one_name, "run.name", self.name, "must be one folder name; run.dir says where it is")
        require(bool(self.dir), "run.dir", self.dir, "must name a folder; the default is 'runs'")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images."""

    name: Literal["mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits", "synthetic"] = "mnist"
    """Data set. 'synthetic' is generated, needs no files and is for quick tests."""
    root: str = "data"
    """Folder with torchvision's layout (MNIST/raw/...); missing files are fetched into it."""
    num_train: int = 0
    """Train on the first so many training samples only. 0: all of them."""
    fetch_timeout_seconds: float = 120.0
    """Time limit of each source when files must be fetched (seconds)."""

    def __post_init__(self) -> None:
        require(self.num_train >= 0, "data.num_train", self.num_train, "must be >= 0; 0 uses all samples")
        seconds = self.fetch_timeout_seconds
        require(seconds > 0, "data.fetch_timeout_seconds", seconds, "must be > 0 seconds; the default is 120")


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
class TrainConfig:
    """How long, and what happens on the way. All intervals count optimizer steps."""

    epochs: int = 3
    """Passes over the training set."""
    steps: int = 0
    """Stop after this many optimizer steps, whatever the epochs say. 0: as many as the epochs need."""
    log_every: int = 20
    """Steps between two records of loss, accuracy and rate."""
    eval_every: int = 0
    """Steps between two evaluations on the test set. 0: at the end of each epoch."""
    checkpoint_every: int = 0
    """Steps between two checkpoints. 0: at the end of each epoch."""
    digest_every: int = 100
    """Steps between two comparisons of the ranks' weights; the record then holds their digest."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay; the best one by test accuracy stays besides."""
    check_order: bool = False
    """Watch every step and stop at one that breaks the order from zero_grad to the optimizer's step."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", self.epochs, "must be >= 1 epoch")
        require(self.steps >= 0, "train.steps", self.steps, "must be >= 0; 0 lets train.epochs decide")
        require(self.log_every >= 1, "train.log_every", self.log_every, "must be >= 1 step")
        for name in ("eval_every", "checkpoint_every"):
            value = getattr(self, name)
            require(value >= 0, f"train.{name}", value, "must be >= 0 steps; 0 means once an epoch")
        require(self.digest_every >= 1, "train.digest_every", self.digest_every, "must be >= 1 step")
        require(self.keep_checkpoints >= 1, "train.keep_checkpoints", self.keep_checkpoints, "must be >= 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    name: str = "cnn"
    """cnn, rnn, rnn-orthogonal, mlp or cnn-gru; or your own as 'package.module:Class', a torch.nn.Module
    whose constructor takes no arguments, from (batch, 1, 28, 28) images to (batch, 10) logits."""
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
        limits = {"shift_pixels": 14, "rotate_degrees": 180, "scale": 0.9, "cutout_pixels": 28}
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
    """torch.optim's SGD, Adam or AdamW, fused where the device has it."""
    lr: float = 0.005
    """Peak learning rate; the schedule multiplies it."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two moments."""
    momentum: float = 0.9
    """SGD's momentum."""
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


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate as a pure function of the step."""

    name: Literal["constant", "one-cycle", "cosine"] = "one-cycle"
    """one-cycle: up and down again, both along a cosine. cosine: linear warm-up, then down along a cosine."""
    warmup: float = 0.3
    """Part of all steps spent going up (one-cycle and cosine)."""

    def __post_init__(self) -> None:
        require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "must be a part of the run in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where a key is found, else offline. The local metrics.jsonl is always written."""
    project: str = "lockstep"
    """W&B project."""
    entity: str = ""
    """W&B user or team. Empty: the account's default."""
    group: str = ""
    """W&B group. Empty: none."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a digit classifier; the run is defined by its global batch, not by its topology."""

    seed: int = 0
    """Defines initial weights, sample order and every random draw."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Autocast precision. auto: what `accelerate launch --mixed_precision` says, else no (fp32)."""
    reduction: Literal["exact", "fast"] = "exact"
    """How gradients are summed. exact: in one fixed tree, the same bits on any number of ranks. fast:
    DistributedDataParallel, which overlaps the sum with the backward; its rounding depends on the ranks."""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", self.seed, "must be in [0, 2**63)")
