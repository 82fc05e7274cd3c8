"""The whole run as one tree of frozen dataclasses: what a user can state, with units and checks.

The command line, the YAML files, the copy in the run folder and `wandb.config` are all this tree. A field's
docstring is its help text. This module imports no torch, so that `--help` and every refusal are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lockstep.config.recipe import (
    AugmentConfig,
    BatchConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
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
    storage: Literal["resident", "streamed"] = "resident"
    """Where the training images are. resident: all on the device. streamed: on disk, read ahead by worker
    processes, for a set that the device or the host cannot hold; the losses are the same."""
    num_workers: int = 1
    """Processes of each rank that read ahead (streamed only)."""
    fetch_timeout_seconds: float = 120.0
    """Time limit of each source when files must be fetched (seconds)."""

    def __post_init__(self) -> None:
        require(self.num_train >= 0, "data.num_train", self.num_train, "must be >= 0; 0 uses all samples")
        require(
            self.storage == "resident" or self.name != "synthetic",
            "data.storage",
            self.storage,
            "needs files, and data.name = 'synthetic' has none; leave it at resident",
        )
        require(self.num_workers >= 1, "data.num_workers", self.num_workers, "must be >= 1 process")
        require(
            self.storage == "streamed" or self.num_workers == 1,
            "data.num_workers",
            self.num_workers,
            "is for data.storage = 'streamed'; with 'resident' leave it at 1",
        )
        seconds = self.fetch_timeout_seconds
        require(seconds > 0, "data.fetch_timeout_seconds", seconds, "must be > 0 seconds; the default is 120")


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
    report: bool = True
    """Draw curves, confusions and worst mistakes into the run folder's report/ when training ends or is
    interrupted (about a second). `lockstep report` draws them at any time."""

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
class TrackingConfig:
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where a key is found, else offline. The local metrics.jsonl is always written."""
    project: str = "lockstep"
    """W&B project."""
    entity: str = ""
    """W&B user or team. Empty: the account's default."""
    group: str = ""
    """W&B group. Empty: in a SLURM array one for the array, else none."""
    job_type: str = "train"
    """W&B job type: what kind of run this is within its group."""
    watch: int = 0
    """Steps between two histograms of each weight and gradient, a multiple of train.log_every. 0: none."""

    def __post_init__(self) -> None:
        require(self.watch >= 0, "tracking.watch", self.watch, "must be >= 0 steps; 0 logs no histograms")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a digit classifier; the run is defined by its global batch, not by its topology."""

    seed: int = 0
    """Defines initial weights, sample order and every random draw."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Autocast precision. auto: what `accelerate launch --mixed_precision` says, else no (fp32; on CUDA
    with torch's settings, by which cuDNN's convolutions may use TF32)."""
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
        # A histogram belongs to a record: W&B has one row a step, and none is sent twice.
        require(
            self.tracking.watch % self.train.log_every == 0,
            "tracking.watch",
            self.tracking.watch,
            f"must be a multiple of train.log_every = {self.train.log_every}; "
            f"try {-(-self.tracking.watch // self.train.log_every) * self.train.log_every}",
        )
