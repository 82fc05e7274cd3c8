"""The `Run`: the progress of a run and all the parts it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from lockstep.config import TrainConfig
from lockstep.data import MicroBatch, Samples
from lockstep.engine.evaluation.selection import ScoredSet, Selection
from lockstep.engine.measuring.timers import StepTimer, Stopwatch
from lockstep.engine.model_traits.try_model import ModelTraits
from lockstep.engine.optimizer.ownership import Owners
from lockstep.engine.optimizer.skipped_steps import SkippedSteps
from lockstep.engine.optimizer.weight_average import WeightAverage
from lockstep.engine.reduction.reduction import Reduction
from lockstep.launch import StopRequest
from lockstep.launch.liveness.heartbeats import BUSY, COMPUTING, READING, WAITING
from lockstep.launch.ranks.ranks import Ranks
from lockstep.plan import Plan
from lockstep.runs import Sink
from lockstep.task import Evaluation, Task

ACTIVITIES = {"data": READING, "after data": COMPUTING, "communication": WAITING}
"""Section of a step, as its timer knows it → what its rank does. Anything else is work without a limit."""

if TYPE_CHECKING:  # it takes a run itself
    from lockstep.engine.step.captured_step import CapturedStep


@dataclass(kw_only=True)
class Run:
    """A run in progress. The first fields change as it trains; the others are fixed when it is built."""

    step: int = 0
    """Optimizer steps taken so far."""
    skips: SkippedSteps = field(default_factory=SkippedSteps)
    """Counts the steps among these that changed no weight and no learning rate."""
    clock: Stopwatch
    """Measures training time; paused during evaluations and checkpoints."""
    timer: StepTimer
    """Seconds spent on data and communication in the steps since the last record."""
    step_seconds: float = 0.0
    """Of a step before the last record, as the main rank measured it: the same number on every rank. 0 before
    the first record."""
    evaluation: Evaluation | None = None
    """The latest evaluation of the weights, of `scored`; None before the first."""
    ema_evaluation: Evaluation | None = None
    """The same of the moving average of the weights, if there is one."""
    average: WeightAverage | None = None
    """The moving average of the weights."""
    selection: Selection | None = None
    """Which evaluation was the best so far; None without a validation set."""

    folder: Path
    seed: int
    num_steps: int
    intervals: TrainConfig
    """Steps between two records, evaluations, digests and checkpoints."""
    ranks: Ranks
    plan: Plan
    model: nn.Module
    """The network itself."""
    trained: list[nn.Parameter]
    """The parameters that the optimizer updates; all others are frozen."""
    optimizer: AcceleratedOptimizer
    task: Task
    reduction: Reduction
    owners: Owners | None = None
    """The rank that updates each parameter, if the optimizer is sharded; None: every rank updates all."""
    watch_every: int = 0
    """Steps between two that a sink reads the gradient of (`tracking.watch`); 0: none does."""
    captured: CapturedStep | None = None
    """The CUDA graphs of its steps; None: every step is taken eagerly."""
    traits: ModelTraits
    """How the model uses its parameters and changes its buffers, and what the loss returns."""
    max_grad_norm: float
    """Limit of the global gradient norm; inf means no limit."""
    lr_factor: Callable[[int], float]
    """Number of updates so far → factor on each group's peak learning rate."""
    windows: Iterator[list[MicroBatch]]
    """Per step, the micro-batches whose gradients this rank accumulates."""
    train_samples: Samples
    validation: ScoredSet | None
    """What the best checkpoint is chosen by; None: there is no best one."""
    test: ScoredSet | None
    """What results are reported on; None: there is no test set."""
    stop: StopRequest = field(default_factory=StopRequest)
    sinks: list[Sink] = field(default_factory=list)
    """Where records go; empty on all ranks except the main one."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know before the first step."""
    closing: ExitStack = field(default_factory=ExitStack)
    """Closed when the run ends: the processes that read data ahead."""

    def position(self) -> tuple[int, str]:
        """Where this rank is, for its heartbeat: the steps done, and what it does in the next one."""
        return self.step, ACTIVITIES.get(self.timer.current, BUSY)

    @property
    def scored(self) -> ScoredSet | None:
        """What is scored as the run trains: the validation set; without one the test set, if there is any."""
        return self.validation or self.test

    @property
    def is_over(self) -> bool:
        """Whether the run ends at this step: it was the last one, or evaluations improve no more."""
        is_exhausted = self.selection is not None and self.selection.is_exhausted(self.intervals.patience)
        return self.step >= self.num_steps or is_exhausted

    def is_watched(self, step: int) -> bool:
        """Whether a sink reads the gradient after a step."""
        return self.watch_every > 0 and step % self.watch_every == 0

    @property
    def skipped_steps(self) -> int:
        """Steps whose gradient overflowed (fp16) or whose loss counted nothing. In fp16 it waits."""
        return self.skips.count(self.optimizer.optimizer)

    @property
    def num_updates(self) -> int:
        """Steps that changed the weights. The schedule follows these; the data follows all steps.

        In fp16 it waits for the device.
        """
        return self.step - self.skipped_steps
