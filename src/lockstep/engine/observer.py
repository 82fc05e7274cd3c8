"""Observers watch an optimizer step as it happens; other trainers call them callbacks or hooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine.records import StepResult
from lockstep.engine.run import Run


class Observer:
    """Is called by `take_step` after each event of a step, on every rank; here each method does nothing.

    Override what you need. An observer looks and does not touch: one that changes the model, a gradient or a
    random generator leaves what Lockstep promises. One that reads a number waits for the device. Whoever uses
    a collective in it must do so on every rank.
    """

    def on_step_begin(self, run: Run) -> None:
        """Before anything else; `run.step` steps are done."""

    def on_zero_grad(self, run: Run) -> None:
        """The gradients of the step before are gone."""

    def on_micro_batch(self, run: Run, batch: MicroBatch) -> None:
        """Before the forward of a micro-batch."""

    def on_forward(self, run: Run, batch: MicroBatch, logits: Tensor) -> None:
        """After a forward: logits (batch, classes), still in the graph."""

    def on_loss(self, run: Run, batch: MicroBatch, losses: Tensor) -> None:
        """After the criterion: a loss for each sample (batch,), still in the graph."""

    def on_backward(self, run: Run, batch: MicroBatch) -> None:
        """After the backward of a micro-batch, whose gradient the reduction has taken."""

    def on_sum(self, run: Run) -> None:
        """`.grad` holds the gradient of the global batch, the same on every rank; in fp16 still scaled."""

    def on_unscale(self, run: Run) -> None:
        """`.grad` is no longer scaled; without fp16 it never was."""

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        """`.grad` is what the optimizer will use; the norm (), float32, is from before the clipping."""

    def on_schedule(self, run: Run) -> None:
        """The parameter groups hold the learning rates of this step."""

    def on_update(self, run: Run) -> None:
        """The optimizer has stepped, or skipped an fp16 step whose gradient overflowed."""

    def on_step_end(self, run: Run, result: StepResult) -> None:
        """After everything else; `run.step` counts the step."""


class Observers(Observer):
    """Several observers as one, called in their order."""

    def __init__(self, *observers: Observer) -> None:
        for name in (name for name in vars(Observer) if name.startswith("on_")):
            setattr(self, name, partial(_call_all, [getattr(observer, name) for observer in observers]))


def _call_all(methods: list[Callable[..., None]], *arguments: object) -> None:
    for method in methods:
        method(*arguments)


NO_OBSERVER = Observer()
"""Watches nothing: a step's default."""
