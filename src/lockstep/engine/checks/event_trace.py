"""Traces the events of a step as they really happen, and checks their order.

torch's own hooks report the forward (module hook), the backward (gradients accumulated into parameters) and
the optimizer step. The loop's calls to its observer report the rest. Where such an event has a visible
effect, it counts only if the effect is there: gradients are cleared, summed, unscaled and clipped, and the
learning rates are the schedule's.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from lockstep.data import MicroBatch
from lockstep.engine.checks.expected_events import Event, EventKind, OrderError, first_violation
from lockstep.engine.optimizer.optimizer import learning_rate
from lockstep.engine.records import StepResult
from lockstep.engine.run import Run
from lockstep.engine.step.observer import Observer


class OrderTrace(Observer):
    """Records the events of the latest step in `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._seen: list[MicroBatch] = []  # kept alive, so that no other object gets the same identity
        self._current: int | None = None
        self._arrived: dict[Event, set[object]] = {}
        self._handles: list[Any] = []
        self._norm: float | None = None  # of the gradient, at the last event

    def on_step_begin(self, run: Run) -> None:
        """Installs hooks for this step only, so that an evaluation between two steps is not traced."""
        self._remove_hooks()
        self.events, self._seen, self._current, self._arrived = [], [], None, {}
        self._handles = [
            run.model.register_forward_hook(lambda *_: self._note(EventKind.FORWARD, self._current)),
            run.optimizer.optimizer.register_step_pre_hook(lambda *_: self._note(EventKind.OPTIMIZER_STEP)),
            *(p.register_post_accumulate_grad_hook(self._gradient_arrived) for p in run.trained),
        ]

    def on_zero_grad(self, run: Run) -> None:
        """Counts only if no gradient is left: Accelerate's zero_grad does nothing while it accumulates."""
        if all(p.grad is None or not p.grad.any() for p in run.trained):
            self._note(EventKind.ZERO_GRAD)

    def on_micro_batch(self, run: Run, batch: MicroBatch) -> None:
        """A micro-batch used a second time keeps its first index, which breaks the order."""
        indices = [index for index, seen in enumerate(self._seen) if seen is batch]
        if not indices:
            self._seen.append(batch)
        self._current = indices[0] if indices else len(self._seen) - 1

    def on_loss(self, run: Run, batch: MicroBatch, loss: Any) -> None:
        self._note(EventKind.LOSS, self._current)

    def on_backward(self, run: Run, batch: MicroBatch) -> None:
        """From here on a forward or backward belongs to no micro-batch, which breaks the order."""
        self._current = None

    def on_sum(self, run: Run) -> None:
        """Counts only if the sum is in `.grad`: the reduction takes each micro-batch's gradient out of it."""
        self._norm = _gradient_norm(run)
        if self._norm is not None:
            self._note(EventKind.GRADIENT_SUM)

    def on_unscale(self, run: Run) -> None:
        """Counts only if the gradient has shrunk by the loss scale, or overflowed."""
        scaler = run.ranks.accelerator.scaler
        if scaler is not None:
            scaled, self._norm = self._norm, _gradient_norm(run)
            if (
                scaled is not None
                and self._norm is not None
                and _is_close(self._norm * scaler.get_scale(), scaled)
            ):
                self._note(EventKind.UNSCALE)

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        """Counts only if it gives the norm of the gradient and leaves one within the limit."""
        after = _gradient_norm(run)
        if self._norm is not None and after is not None and _is_close(grad_norm.item(), self._norm):
            expected = min(self._norm, run.max_grad_norm)
            if _is_close(after, expected) or after <= expected:
                self._note(EventKind.CLIP)
            self._norm = after

    def on_schedule(self, run: Run) -> None:
        """Counts only if the learning rates are what the schedule gives for the updates so far."""
        factor = run.lr_factor(run.num_updates)
        if all(group["lr"] == learning_rate(group, factor) for group in run.optimizer.param_groups):
            self._note(EventKind.SCHEDULE)

    def on_update(self, run: Run) -> None:
        if run.optimizer.step_was_skipped:
            self._note(EventKind.SKIPPED_STEP)

    def on_step_end(self, run: Run, result: StepResult) -> None:
        self._remove_hooks()

    def _note(self, kind: EventKind, micro_batch: int | None = None) -> None:
        self.events.append(Event(kind, micro_batch))

    def _note_once(self, event: Event, source: object) -> None:
        """Notes one event reported by several sources; a source that reports again starts a new event."""
        arrived = self._arrived.setdefault(event, set())
        if not arrived or source in arrived:
            arrived.clear()
            self.events.append(event)
        arrived.add(source)

    def _gradient_arrived(self, parameter: nn.Parameter) -> None:
        self._note_once(Event(EventKind.BACKWARD, self._current), parameter)

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


class OrderCheck(OrderTrace):
    """Raises at the end of a step whose events are out of order."""

    def on_step_end(self, run: Run, result: StepResult) -> None:
        """Checks the step just done.

        Raises:
            OrderError: names the step and the rank, and shows the trace. Only the rank where it happened
                raises, without asking the others: they may be waiting in a collective that it skipped.
        """
        super().on_step_end(run, result)
        scaler = run.ranks.accelerator.scaler
        violation = first_violation(
            self.events,
            len(run.plan.window_sizes(run.step - 1, run.ranks.rank)),
            is_scaled=scaler is not None,
        )
        if violation is not None:
            raise OrderError(f"step {run.step} on rank {run.ranks.rank} breaks the order: {violation}")


def _gradient_norm(run: Run) -> float | None:
    """The norm of the gradient as it is now; None without a gradient. It waits for the device."""
    gradients = [parameter.grad for parameter in run.trained if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients).item() if gradients else None


def _is_close(one: float, other: float) -> bool:
    """Equal up to the rounding of a norm; two numbers that are not finite count as equal."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return not math.isfinite(one) and not math.isfinite(other)
    return math.isclose(one, other, rel_tol=1e-3)
