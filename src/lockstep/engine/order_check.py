"""Watches a step of a run: its events, taken from hooks and, where torch has none, from its collaborators.

Hooks give forward (module), backward (gradients arriving at parameters), the gradient sum of
DistributedDataParallel (communication) and the optimizer step. The rest (zero_grad, loss, the exact sum,
unscale, clip, the rate) passes through the collaborators that `Run` names; while a step is watched, each is
replaced by an observer of the same shape, which calls the real one. What goes past them, such as a direct
call of `torch.nn.utils.clip_grad_norm_`, is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from lockstep.data import MicroBatch
from lockstep.engine.loop import StepFunction, take_step
from lockstep.engine.records import StepResult
from lockstep.engine.run import Run
from lockstep.engine.step_order import Event, Kind, OrderError, first_violation


class ObservedStep:
    """A step function that does what another does, and keeps the events of the newest step in `events`."""

    def __init__(
        self,
        run: Run,
        do_step: StepFunction = take_step,
        *,
        after: Mapping[Kind, Callable[[], None]] | None = None,
    ) -> None:
        """Made before the first step of a run, and once: a communication hook cannot be taken away again.

        Args:
            run: the run whose steps it will do.
            do_step: what does a step.
            after: what to call when an event of a kind is complete, to look at the run just then.
        """
        self.events: list[Event] = []
        self._do_step = do_step
        self._after = after or {}
        self._seen: list[MicroBatch] = []  # held, so that no other can take its identity
        self._current: int | None = None
        self._parts: dict[Event, set[object]] = {}
        self._sums_in_backward = isinstance(run.reduction.model, DistributedDataParallel)
        if isinstance(run.reduction.model, DistributedDataParallel):
            # A lambda, as torch compares a hook's annotations, which are strings in this module.
            run.reduction.model.register_comm_hook(None, lambda state, bucket: self._sum_bucket(bucket))

    def __call__(self, run: Run) -> StepResult:
        self.events, self._parts = [], {}
        self._seen, self._current = [], None
        with self._watching(run):
            return self._do_step(run)

    @contextmanager
    def _watching(self, run: Run) -> Iterator[None]:
        """Hooks and observers are there for one step, so that an evaluation between two is not watched."""
        real = run.clip_grad_norm, run.optimizer, run.criterion, run.reduction
        accelerator, scaler = run.ranks.accelerator, run.ranks.accelerator.scaler
        with ExitStack() as stack:
            for handle in (
                run.model.register_forward_hook(lambda *_: self.note(Kind.FORWARD, self._current)),
                run.optimizer.optimizer.register_step_pre_hook(lambda *_: self.note(Kind.OPTIMIZER_STEP)),
                *(p.register_post_accumulate_grad_hook(self._gradient_arrived) for p in run.trained),
            ):
                stack.callback(handle.remove)
            run.optimizer = cast(Any, _Optimizer(run.optimizer, run.trained, self))
            run.reduction = _Reduction(run.reduction, self)
            run.criterion = self._observed_criterion(run.criterion)
            run.clip_grad_norm = self._observed_clip(run.clip_grad_norm)
            if scaler is not None:
                accelerator.scaler = _Scaler(scaler, self)
            try:
                yield
            finally:
                run.clip_grad_norm, run.optimizer, run.criterion, run.reduction = real
                accelerator.scaler = scaler

    def note(self, kind: Kind, micro_batch: int | None = None) -> None:
        """An event that is complete."""
        self.events.append(Event(kind, micro_batch))
        self.complete(kind)

    def note_part(self, event: Event, part: object) -> None:
        """An event that comes in parts: the first makes it, and a part that comes again makes a new one."""
        parts = self._parts.setdefault(event, set())
        if not parts or part in parts:
            parts.clear()
            self.events.append(event)
        parts.add(part)

    def complete(self, kind: Kind) -> None:
        """Calls what waits for an event of this kind."""
        if kind in self._after:
            self._after[kind]()

    def begin_micro_batch(self, batch: MicroBatch) -> None:
        """A micro-batch that comes a second time keeps its first place, and so breaks the order."""
        places = [place for place, seen in enumerate(self._seen) if seen is batch]
        if not places:
            self._seen.append(batch)
        self._current = places[0] if places else len(self._seen) - 1

    def end_micro_batch(self) -> None:
        """A forward or backward from here on belongs to no micro-batch, which breaks the order."""
        self._current = None

    def gradient_sum_returned(self) -> None:
        """The sum is in place; DistributedDataParallel has begun it inside the last backward."""
        if not self._sums_in_backward:
            self.events.append(Event(Kind.GRADIENT_SUM))
        self.complete(Kind.GRADIENT_SUM)

    def _gradient_arrived(self, parameter: nn.Parameter) -> None:
        self.note_part(Event(Kind.BACKWARD, self._current), parameter)

    def _sum_bucket(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self.note_part(Event(Kind.GRADIENT_SUM), bucket.index())
        return allreduce_hook(cast(dist.ProcessGroup, dist.group.WORLD), bucket)

    def _observed_criterion(self, criterion: Callable[[Tensor, Tensor], Tensor]) -> Any:
        def observed(logits: Tensor, labels: Tensor) -> Tensor:
            losses = criterion(logits, labels)
            self.note(Kind.LOSS, self._current)
            return losses

        return observed

    def _observed_clip(self, clip: Callable[..., Tensor]) -> Any:
        def observed(parameters: list[nn.Parameter], limit: float) -> Tensor:
            norm = clip(parameters, limit)
            self.note(Kind.CLIP)
            return norm

        return observed


def order_checked(run: Run, do_step: StepFunction = take_step) -> StepFunction:
    """A step function that raises where a step of this rank does not keep the order.

    Raises:
        OrderError: names step and rank, and shows the trace. It is raised on the rank it happened on, without
            asking the others, who may be waiting in a collective that this rank has left out.
    """
    observed = ObservedStep(run, do_step)

    def checked(run: Run) -> StepResult:
        result = observed(run)
        scaler = run.ranks.accelerator.scaler
        violation = first_violation(observed.events, run.plan.window, is_scaled=scaler is not None)
        if violation is not None:
            raise OrderError(f"step {run.step} on rank {run.ranks.rank} breaks the order: {violation}")
        return result

    return checked


class _Observer:
    """Has all that the real one has."""

    def __init__(self, real: Any, watch: ObservedStep) -> None:
        self._real, self._watch = real, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Scaler(_Observer):
    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        self._real.unscale_(optimizer)
        self._watch.note(Kind.UNSCALE)


class _Reduction(_Observer):
    model: nn.Module
    loss_scale: Tensor

    @contextmanager
    def accumulate(self, batch: MicroBatch) -> Iterator[None]:
        self._watch.begin_micro_batch(batch)
        with self._real.accumulate(batch):
            yield
        self._watch.end_micro_batch()

    def sum_over_ranks(self) -> None:
        self._real.sum_over_ranks()
        self._watch.gradient_sum_returned()


class _Optimizer(_Observer):
    def __init__(self, real: Any, trained: list[nn.Parameter], watch: ObservedStep) -> None:
        super().__init__(real, watch)
        self._trained = trained

    @property
    def param_groups(self) -> list[_Group]:
        return [_Group(group, self._watch) for group in self._real.param_groups]

    def zero_grad(self, *arguments: Any, **options: Any) -> None:
        """Counts if no gradient is left: Accelerate's does nothing while it accumulates."""
        self._real.zero_grad(*arguments, **options)
        if all(p.grad is None or not p.grad.any() for p in self._trained):
            self._watch.note(Kind.ZERO_GRAD)

    def step(self, *arguments: Any, **options: Any) -> None:
        self._real.step(*arguments, **options)
        if self._real.step_was_skipped:
            self._watch.note(Kind.SKIPPED_STEP)


class _Group(MutableMapping[str, Any]):
    """A parameter group that sees its learning rate being written."""

    def __init__(self, real: dict[str, Any], watch: ObservedStep) -> None:
        self._real, self._watch = real, watch

    def __setitem__(self, key: str, value: Any) -> None:
        self._real[key] = value
        if key == "lr":
            self._watch.note_part(Event(Kind.SCHEDULE), id(self._real))

    def __getitem__(self, key: str) -> Any:
        return self._real[key]

    def __delitem__(self, key: str) -> None:
        del self._real[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)
