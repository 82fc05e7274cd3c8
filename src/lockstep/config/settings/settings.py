"""The whole run as one tree of frozen dataclasses: what a user can state, with units and checks.

The command line, the YAML files, the copy in the run folder and `wandb.config` all hold this tree. A field's
docstring is its help text. This module does not import torch, so that `--help` and every refusal are quick.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lockstep.config.choices import check_choices
from lockstep.config.keyword_arguments import plain_arguments
from lockstep.config.settings.data import DataConfig
from lockstep.config.settings.digits import IMAGE_SIZE
from lockstep.config.settings.optimizer import OptimizerConfig
from lockstep.config.settings.recipe import (
    AugmentConfig,
    BatchConfig,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
)
from lockstep.errors import require

ReductionName = Literal["exact", "fast"]
"""How gradients are summed."""
MAX_PROFILED_STEPS = 100
"""A trace holds every operation: of small models about 1 MB a step."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run folder."""

    name: str = ""
    """Folder in run.dir. Starting again with the same name resumes the run. Empty: derived from the settings
    that define the run, so that the same command resumes the same run."""
    dir: str = "runs"
    """Where run folders are kept. With several nodes, a folder that all of them share."""
    timeout_seconds: float = 600.0
    """How long a rank may give no sign of life, or stand still as model and data are made, in training or in
    an evaluation, before all end. Other long work of the main rank, such as a download, has no limit."""

    def __post_init__(self) -> None:
        is_one_name = "/" not in self.name and self.name not in (".", "..")
        require(
            is_one_name,
            "run.name",
            self.name,
            "must be a single folder name; run.dir says where it is",
        )
        require(bool(self.dir), "run.dir", self.dir, "must name a folder; the default is 'runs'")
        rule = "must be >= 1 second, and less than a week"
        require(1 <= self.timeout_seconds < 7 * 86400, "run.timeout_seconds", self.timeout_seconds, rule)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is learnt, if it is not images in classes."""

    name: str = ""
    """'package.module:function', which returns a lockstep.Task. '--task X' is short for '--task.name X'.
    Empty: the built-in task, which data, augment, model and loss describe. A name without a colon, in a run
    folder, is that of a task made in a script."""
    args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the task's function, such as '--task.args.depth 4'. Values are read as YAML."""
    source: str = ""
    """The file that the task comes from. A run records it; it is not for you to set."""

    def __post_init__(self) -> None:
        rule = "are for the function that task.name names; name one"
        require(bool(self.name) or not self.args, "task.args", self.args, rule)
        object.__setattr__(self, "args", plain_arguments("task.args", self.args))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, and what to do meanwhile. All intervals count optimizer steps."""

    epochs: int = 3
    """Passes over the training set."""
    steps: int = 0
    """Train for exactly this many optimizer steps, whatever train.epochs says. 0: train.epochs decides."""
    log_every: int = 20
    """Steps between two records of loss, metrics and learning rate."""
    eval_every: int = 0
    """Steps between two evaluations: on the validation set, or without one on the test set. 0: evaluate at
    the end of each epoch."""
    checkpoint_every: int = 0
    """Steps between two checkpoints. 0: save one at the end of each epoch."""
    digest_every: int = 100
    """Steps between two checks that all ranks have the same weights. The record then holds their digest."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints to keep. The one with the best headline value on the validation set
    is always kept."""
    resume_from: str = ""
    """The run that this one continues from, with all its state: RUN, RUN:best or a checkpoint of it. Length,
    schedule and rates may differ. '--resume-from RUN' sets it, and takes the other settings from that run."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, such as 0.999. It is scored besides the weights,
    and the best checkpoint is the one whose average is the best. 0: no average."""
    patience: int = 0
    """Stop after this many evaluations in a row on the validation set that are no better than the best one
    before. 0: never."""
    check_order: bool = False
    """Watch every step, and stop if one breaks the order from zero_grad to the optimizer's step."""
    allow_nondeterministic: bool = False
    """Warn of an operation that has no deterministic form on a GPU, and go on: then no run repeats its bits.
    Without it, exact reduction ends with the name of that operation."""
    profile: str = ""
    """Profile these steps, 'FIRST-LAST' such as '20-25', counted from 1, on every rank. The run folder's
    profile/ then has a trace and a table of the costliest operations. Empty: none."""
    report: bool = True
    """Write the report, index.html and pictures, into the run folder's report/ when training ends or is
    interrupted (about a second). `lockstep report` writes it at any time."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", self.epochs, "must be >= 1 epoch")
        require(self.steps >= 0, "train.steps", self.steps, "must be >= 0; 0 lets train.epochs decide")
        require(self.log_every >= 1, "train.log_every", self.log_every, "must be >= 1 step")
        for name in ("eval_every", "checkpoint_every"):
            value = getattr(self, name)
            require(value >= 0, f"train.{name}", value, "must be >= 0 steps; 0 means once an epoch")
        require(self.digest_every >= 1, "train.digest_every", self.digest_every, "must be >= 1 step")
        require(self.keep_checkpoints >= 1, "train.keep_checkpoints", self.keep_checkpoints, "must be >= 1")
        require(0 <= self.ema < 1, "train.ema", self.ema, "must be in [0, 1); 0 keeps no average")
        rule = f"must be FIRST-LAST, steps from 1 on, at most {MAX_PROFILED_STEPS} of them, such as '20-25'"
        is_valid = not self.profile or 1 <= len(self.profiled_steps) <= MAX_PROFILED_STEPS
        require(is_valid, "train.profile", self.profile, rule)
        rule = "must be >= 0 evaluations; 0 never stops early"
        require(self.patience >= 0, "train.patience", self.patience, rule)

    @property
    def profiled_steps(self) -> range:
        """The steps to profile, counted from 1; empty if there are none, or the setting is not valid."""
        bounds = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", self.profile)
        return range(int(bounds[1]), int(bounds[2]) + 1) if bounds else range(0)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Weights & Biases, and TensorBoard."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online if a key is found, else offline. The local metrics.jsonl is always written."""
    project: str = "lockstep"
    """W&B project."""
    entity: str = ""
    """W&B user or team. Empty: the account's default."""
    group: str = ""
    """W&B group. Empty: one group for all jobs of a SLURM array, none otherwise."""
    job_type: str = "train"
    """W&B job type: the kind of run within its group."""
    watch: int = 0
    """Steps between two histograms of each weight and gradient, a multiple of train.log_every. 0: none."""
    tensorboard: bool = False
    """Also write TensorBoard's files into the run folder's tensorboard/."""

    def __post_init__(self) -> None:
        check_choices(self, "tracking")
        require(self.watch >= 0, "tracking.watch", self.watch, "must be >= 0 steps; 0 logs no histograms")


BUILT_IN_TASK_SETTINGS: dict[str, tuple[str, ...]] = {
    "data": (
        *("name", "args", "root", "image_size", "transforms", "num_train"),
        *("storage", "fetch_timeout_seconds"),
    ),
    "augment": tuple(entry.name for entry in fields(AugmentConfig)),
    "model": ("name", "dropout", "args"),
    "loss": tuple(entry.name for entry in fields(LossConfig)),
}
"""Section → its settings that describe the built-in task. Another one brings its own data, model and loss."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run, which is defined by its global batch, not by its topology."""

    seed: int = 0
    """Determines the initial weights, the sample order and every random draw."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Precision of autocast. no: float32 (torch's defaults let cuDNN's convolutions use TF32). auto: what
    `accelerate launch --mixed_precision` says, else no."""
    reduction: ReductionName = "exact"
    """How gradients are summed. exact: in one fixed tree, with the same bits on any number of ranks. fast: by
    an all-reduce. It takes any number of micro-batches per rank; the rounding depends on the ranks."""
    engine: Literal["auto", "eager", "captured"] = "auto"
    """How a step reaches a CUDA device. eager: kernel by kernel. captured: as CUDA graphs, much faster for
    small models. auto: captured for built-in models under exact reduction. The bits are the same."""
    run: RunConfig = field(default_factory=RunConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
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
        check_choices(self, "")
        require(0 <= self.seed < 2**63, "seed", self.seed, "must be in [0, 2**63)")
        # A histogram is part of a record: W&B takes one row per step, and a row is sent only once.
        require(
            self.tracking.watch % self.train.log_every == 0,
            "tracking.watch",
            self.tracking.watch,
            f"must be a multiple of train.log_every = {self.train.log_every}; "
            f"try {-(-self.tracking.watch // self.train.log_every) * self.train.log_every}",
        )
        rule = "needs exact reduction: fast leaves every rank the whole gradient; choose one of the two"
        is_fit = self.reduction == "exact" or not self.optimizer.sharded
        require(is_fit, "optimizer.sharded", self.optimizer.sharded, rule)
        if self.task.name:
            self._check_no_built_in_task()
        elif self.data.is_digits:
            self.augment.check_size(IMAGE_SIZE)

    def _check_no_built_in_task(self) -> None:
        for name, settings in BUILT_IN_TASK_SETTINGS.items():
            section = getattr(self, name)
            default = type(section)()
            for setting in settings:
                value = getattr(section, setting)
                rule = f"is for the built-in task, and task.name = {self.task.name!r} is given; leave one out"
                require(value == getattr(default, setting), f"{name}.{setting}", value, rule)
