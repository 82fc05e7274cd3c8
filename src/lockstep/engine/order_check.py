"""Watches the order of a step's events, as they really happen.

torch's own hooks tell of the forward (of the module), the backward (gradients that arrive at parameters), the
sum of DistributedDataParallel (its communication) and the optimizer's step. The rest comes from the loop's
calls to its observer, each checked against what it should have left behind where something can be seen:
gradients that are gone, a gradient that was unscaled, rates that are the schedule's.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from lockstep.data import MicroBatch
from lockstep.engine.observer import Observer
from lockstep.engine.records import StepResult
from lockstep.engine.run import Run
from lockstep.engine.step_order import Event, Kind, OrderError, first_violation


class OrderTrace(Observer):
    """Keeps the events of the newest step in `events`."""

    def __init__(self, run: Run) -> None:
        """Made before the first step of a run, and once: a communication hook cannot be taken away again.

        It keeps nothing of the run: the run holds DistributedDataParallel, which holds the hook, which holds
        this.
        """
        self.events: list[Event] = []
        self._seen: list[MicroBatch] = []  # held, so that no other can take its identity
        self._current: int | None = None
        self._arrived: dict[Event, set[object]] = {}
        self._handles: list[Any] = []
        self._sums_in_backward = isinstance(run.reduction.model, DistributedDataParallel)
        if isinstance(run.reduction.model, DistributedDataParallel):
            # A lambda, as torch compares a hook's annotations, which are strings in this module.
            run.reduction.model.register_comm_hook(None, lambda state, bucket: self._sum_bucket(bucket))

    def on_step_begin(self, run: Run) -> None:
        """Hooks are there for one step, so that an evaluation between two is not watched."""
        self._remove_hooks()
        self.events, self._seen, self._current, self._arrived = [], [], None, {}
        self._handles = [
            run.model.register_forward_hook(lambda *_: self._note(Kind.FORWARD, self._current)),
            run.optimizer.optimizer.register_step_pre_hook(lambda *_: self._note(Kind.OPTIMIZER_STEP)),
            *(p.register_post_accumulate_grad_hook(self._gradient_arrived) for p in run.trained),
        ]

    def on_zero_grad(self, run: Run) -> None:
        """Counts if no gradient is left: Accelerate's zero_grad does nothing while it accumulates."""
        if all(p.grad is None or not p.grad.any() for p in run.trained):
            self._note(Kind.ZERO_GRAD)

    def on_micro_batch(self, run: Run, batch: MicroBatch) -> None:
        """A micro-batch that comes a second time keeps its first number, and so breaks the order."""
        numbers = [number for number, seen in enumerate(self._seen) if seen is batch]
        if not numbers:
            self._seen.append(batch)
        self._current = numbers[0] if numbers else len(self._seen) - 1

    def on_loss(self, run: Run, batch: MicroBatch, losses: Tensor) -> None:
        self._note(Kind.LOSS, self._current)

    def on_backward(self, run: Run, batch: MicroBatch) -> None:
        """A forward or backward from here on belongs to no micro-batch, which breaks the order."""
        self._current = None

    def on_sum(self, run: Run) -> None:
        """The sum is in place; DistributedDataParallel has begun it inside the last backward."""
        if not self._sums_in_backward:
            self._note(Kind.GRADIENT_SUM)

    def on_unscale(self, run: Run) -> None:
        """Counts if the scaler has unscaled the optimizer's gradients in this step."""
        scaler = run.ranks.accelerator.scaler
        if scaler is not None:
            state = scaler._per_optimizer_states[id(run.optimizer.optimizer)]  # there is no public way to ask
            if state["stage"].name == "UNSCALED":
                self._note(Kind.UNSCALE)

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        self._note(Kind.CLIP)

    def on_schedule(self, run: Run) -> None:
        """Counts if the rates are those that the schedule has for the updates made so far."""
        factor = run.lr_factor(run.num_updates)
        if all(group["lr"] == group["base_lr"] * factor for group in run.optimizer.param_groups):
            self._note(Kind.SCHEDULE)

    def on_update(self, run: Run) -> None:
        if run.optimizer.step_was_skipped:
            self._note(Kind.SKIPPED_STEP)

    def on_step_end(self, run: Run, result: StepResult) -> None:
        self._remove_hooks()

    def _note(self, kind: Kind, micro_batch: int | None = None) -> None:
        self.events.append(Event(kind, micro_batch))

    def _note_once(self, event: Event, source: object) -> None:
        """An event with several sources: the first makes it, and one that comes again makes a new one."""
        arrived = self._arrived.setdefault(event, set())
        if not arrived or source in arrived:
            arrived.clear()
            self.events.append(event)
        arrived.add(source)

    def _gradient_arrived(self, parameter: nn.Parameter) -> None:
        self._note_once(Event(Kind.BACKWARD, self._current), parameter)

    def _sum_bucket(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self._note_once(Event(Kind.GRADIENT_SUM), bucket.index())
        return allreduce_hook(cast(dist.ProcessGroup, dist.group.WORLD), bucket)

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


class OrderCheck(OrderTrace):
    """Raises at the end of a step that does not keep the order."""

    def on_step_end(self, run: Run, result: StepResult) -> None:
        """Checks the step just done.

        Raises:
            OrderError: names step and rank, and shows the trace. It is raised on the rank where it happened,
                which does not ask the others: they may be waiting in a collective that it has left out.
        """
        super().on_step_end(run, result)
        scaler = run.ranks.accelerator.scaler
        violation = first_violation(self.events, run.plan.window, is_scaled=scaler is not None)
        if violation is not None:
            raise OrderError(f"step {run.step} on rank {run.ranks.rank} breaks the order: {violation}")
