"""The `Run`: what a run in progress is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from lockstep.config import TrainConfig
from lockstep.data import ImageFiles, ImageStore, MicroBatch
from lockstep.engine.reduction import Reduction
from lockstep.engine.timers import StepTimer, Stopwatch
from lockstep.launch import StopRequest
from lockstep.launch.ranks import Ranks
from lockstep.models import Criterion, Evaluation, KeyedDropout
from lockstep.plan import Plan
from lockstep.runs import Sink


@dataclass(kw_only=True)
class Run:
    """A run in progress. What changes is at the top; the rest is fixed when it is assembled."""

    step: int = 0
    """Optimizer steps done."""
    skipped_steps: int = 0
    """Of these, the fp16 steps whose gradient overflowed: they changed no weight and no learning rate."""
    clock: Stopwatch
    """Runs while the loop does, without evaluations and checkpoints."""
    timer: StepTimer
    """Seconds of the parts of the steps since the last record: data and communication."""
    evaluation: Evaluation | None = None
    """The newest one."""

    folder: Path
    seed: int
    num_steps: int
    intervals: TrainConfig
    """Steps between two records, evaluations, digests and checkpoints."""
    ranks: Ranks
    plan: Plan
    model: nn.Module
    """The network itself, without DistributedDataParallel around it."""
    trained: list[nn.Parameter]
    """The parameters that some group names."""
    optimizer: AcceleratedOptimizer
    criterion: Criterion
    reduction: Reduction
    max_grad_norm: float
    """inf: the gradient is measured and not clipped."""
    lr_factor: Callable[[int], float]
    """From updates made so far to what each group's peak rate is multiplied by."""
    windows: Iterator[list[MicroBatch]]
    dropouts: list[KeyedDropout]
    """The model's dropout layers, in the order of its modules."""
    train_images: ImageStore | ImageFiles
    test_store: ImageStore
    stop: StopRequest = field(default_factory=StopRequest)
    sinks: list[Sink] = field(default_factory=list)
    """Where records go; empty on all ranks but the main one."""
    closing: ExitStack = field(default_factory=ExitStack)
    """What must end with the run: the processes that read ahead."""

    @property
    def num_updates(self) -> int:
        """Steps that changed the weights; the schedule follows these, the data follows all steps."""
        return self.step - self.skipped_steps
