"""The `Run`: the progress of a run and all the parts it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from lockstep.config import TrainConfig
from lockstep.data import Chunks, MicroBatch, Samples
from lockstep.engine.model_traits.try_out import ModelTraits
from lockstep.engine.reduction import Reduction
from lockstep.engine.timers import StepTimer, Stopwatch
from lockstep.launch import StopRequest
from lockstep.launch.ranks import Ranks
from lockstep.plan import Plan
from lockstep.runs import Sink
from lockstep.task import Evaluation, Task


@dataclass(kw_only=True)
class Run:
    """A run in progress. The first fields change as it trains; the others are fixed when it is built."""

    step: int = 0
    """Optimizer steps taken so far."""
    skipped_steps: int = 0
    """Steps among these whose gradient overflowed (fp16): they changed no weight and no learning rate."""
    clock: Stopwatch
    """Measures training time; paused during evaluations and checkpoints."""
    timer: StepTimer
    """Seconds spent on data and communication in the steps since the last record."""
    evaluation: Evaluation | None = None
    """The latest evaluation; None before the first."""

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
    traits: ModelTraits
    """How the model uses its parameters and changes its buffers, and what the loss returns."""
    max_grad_norm: float
    """Limit of the global gradient norm; inf means no limit."""
    lr_factor: Callable[[int], float]
    """Number of updates so far → factor on each group's peak learning rate."""
    windows: Iterator[list[MicroBatch]]
    """Per step, the micro-batches whose gradients this rank accumulates."""
    train_samples: Samples
    test_samples: Samples | None
    """What evaluations score; None: there are none."""
    test_chunks: Chunks | None
    """This rank's part of it."""
    stop: StopRequest = field(default_factory=StopRequest)
    sinks: list[Sink] = field(default_factory=list)
    """Where records go; empty on all ranks except the main one."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know before the first step."""
    closing: ExitStack = field(default_factory=ExitStack)
    """Closed when the run ends: the processes that read data ahead."""

    @property
    def num_updates(self) -> int:
        """Steps that changed the weights. The schedule follows these; the data follows all steps."""
        return self.step - self.skipped_steps
