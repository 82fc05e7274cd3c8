"""Observers watch an optimizer step as it happens; other trainers call them callbacks or hooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine.records import StepResult
from lockstep.engine.run import Run


class Observer:
    """`take_step` calls one of these methods at each event of a step, on every rank. All do nothing here.

    Override the ones you need. An observer must only read: if it changes the model, a gradient or a random
    generator, Lockstep's guarantees no longer hold. Reading a number waits for the device. A collective in an
    observer must be called on every rank.
    """

    def on_step_begin(self, run: Run) -> None:
        """Before anything else; `run.step` is the number of steps done so far."""

    def on_zero_grad(self, run: Run) -> None:
        """The gradients of the previous step are cleared."""

    def on_micro_batch(self, run: Run, batch: MicroBatch) -> None:
        """Before a micro-batch's forward."""

    def on_forward(self, run: Run, batch: MicroBatch, outputs: Any) -> None:
        """After a micro-batch's forward: what the model returned, still attached to the graph."""

    def on_loss(self, run: Run, batch: MicroBatch, loss: Any) -> None:
        """After the task's loss: what it returned, such as one number per sample, attached to the graph."""

    def on_backward(self, run: Run, batch: MicroBatch) -> None:
        """After a micro-batch's backward, once the reduction has taken its gradient."""

    def on_sum(self, run: Run) -> None:
        """`.grad` holds the gradient of the global batch, the same on every rank; in fp16 still scaled."""

    def on_unscale(self, run: Run) -> None:
        """`.grad` is unscaled; without fp16 it never was scaled."""

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        """`.grad` is what the optimizer will use; `grad_norm`, float32 (), is the norm before clipping."""

    def on_schedule(self, run: Run) -> None:
        """The parameter groups hold this step's learning rates."""

    def on_update(self, run: Run) -> None:
        """The optimizer has stepped or, in fp16, skipped a step whose gradient overflowed."""

    def on_step_end(self, run: Run, result: StepResult) -> None:
        """After everything else; `run.step` now includes this step."""


class Observers(Observer):
    """Combines several observers into one, which calls them in the order given."""

    def __init__(self, *observers: Observer) -> None:
        for name in (name for name in vars(Observer) if name.startswith("on_")):
            setattr(self, name, partial(_call_all, [getattr(observer, name) for observer in observers]))


def _call_all(methods: list[Callable[..., None]], *arguments: object) -> None:
    for method in methods:
        method(*arguments)


NO_OBSERVER = Observer()
"""Does nothing: the default observer of a step."""
