"""A step as CUDA graphs: many kernels are launched at once, which small models on a fast GPU wait for.

Two things are captured: forward, loss and backward of one micro-batch, and clipping with the optimizer's
update. Between them stand what a graph cannot hold: seeding (torch refuses a new seed during a capture), the
sum over micro-batches and ranks, and the learning rate. Graphs launch the kernels that an eager step
launches, in the same order, so the bits are the same, and this is checked before step 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lockstep.data import MicroBatch, restored_generators, seed_generators
from lockstep.engine.evaluation.step_scores import StepScores
from lockstep.engine.model_traits.buffers import restored_buffers
from lockstep.engine.optimizer.optimizer import clip_gradients, rates_on_device, set_learning_rate
from lockstep.engine.run import Run
from lockstep.engine.step.micro_step import add_gradient
from lockstep.engine.step.observer import NO_OBSERVER
from lockstep.errors import first_line, refuse

NUM_WARM_UPS = 2
"""Eager passes before a capture, in which libraries set themselves up: a capture may not."""


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """One micro-batch's forward, loss and backward, and what its replays leave."""

    graph: torch.cuda.CUDAGraph
    share: Tensor
    """Its share of the loss, ()."""
    row: Tensor | None
    """What a logged step measures, if that was captured."""


class CapturedStep:
    """The graphs of one rank's steps.

    Whole micro-batches of whole global batches are replayed. What is not like the captured one, such as a
    short micro-batch at the end of an epoch, and steps that an observer watches are computed eagerly.
    """

    def __init__(self, run: Run, batch: MicroBatch) -> None:
        """Captures a micro-batch, with and without what a logged step measures.

        Args:
            run: at any step.
            batch: any whole micro-batch.

        Raises:
            RuntimeError: torch cannot capture it.
        """
        self._run = run
        self._pool = torch.cuda.graph_pool_handle()
        own = pytree.tree_map_only(Tensor, torch.clone, (batch.inputs, batch.targets))
        self._batch = replace(batch, inputs=own[0], targets=own[1])
        self._tensors, self._layout = _tensors_and_layout(self._batch)
        scaler = run.ranks.accelerator.scaler
        self._scale = None if scaler is None else torch.ones((), device=run.ranks.device)
        self._graphs = {is_logged: self._capture(is_logged) for is_logged in (False, True)}
        self._update: _CapturedUpdate | None = None

    def add_gradient(
        self, batch: MicroBatch, scale: Tensor | None, scores: StepScores | None
    ) -> Tensor | None:
        """Does what the function `add_gradient` does; None if the micro-batch is unlike the captured one."""
        tensors, layout = _tensors_and_layout(batch)
        if layout != self._layout:
            return None
        torch._foreach_copy_(self._tensors, tensors)
        if self._scale is not None and scale is not None:
            self._scale.copy_(scale)
        captured = self._graphs[scores is not None]
        captured.graph.replay()
        if scores is not None and captured.row is not None:
            scores.add_row(captured.row.clone())
        return captured.share.clone()

    def update(self, run: Run) -> Tensor | None:
        """Clips the gradient, sets the learning rates and updates the weights of the run.

        Returns:
            The norm of the gradient before clipping, float32 (); None if nothing was done, as the step has to
            be taken eagerly. So is the first one of a start: it makes the optimizer's state.
        """
        if not _can_capture_update(run):
            return None
        if self._update is None:
            self._update = _CapturedUpdate(run, self._pool)
            return None
        return self._update(run)

    def _capture(self, is_logged: bool) -> _Graph:
        run = self._run

        def compute() -> tuple[Tensor, Tensor | None]:
            scores = StepScores(run.task, run.traits.loss) if is_logged else None
            share = add_gradient(run, self._batch, self._scale, scores, NO_OBSERVER)
            return share, scores.last_row() if scores is not None else None

        graph = torch.cuda.CUDAGraph()
        with _side_stream(run.ranks.device) as stream:
            for _ in range(NUM_WARM_UPS):
                compute()
            with _no_waits():  # found in a capture, a wait would leave the generators unusable
                compute()
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                share, row = compute()
        return _Graph(graph=graph, share=share, row=row)


class _CapturedUpdate:
    """The graph of clipping and the optimizer's update, captured when it is first called."""

    def __init__(self, run: Run, pool: Any) -> None:
        self._pool = pool
        self._rates = [torch.zeros((), device=run.ranks.device) for _ in run.optimizer.param_groups]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._norm = torch.zeros(())

    def __call__(self, run: Run) -> Tensor:
        set_learning_rate(run.optimizer, run.lr_factor(run.num_updates))
        for rate, group in zip(self._rates, run.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        if self._graph is None:
            self._graph = self._capture(run)
        self._graph.replay()
        return self._norm.clone()

    def _capture(self, run: Run) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with (
            rates_on_device(run.optimizer.optimizer, self._rates),
            _side_stream(run.ranks.device) as stream,
            torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"),
        ):
            self._norm = run.reduction.total_norm()
            clip_gradients(run.trained, run.max_grad_norm, self._norm)
            run.optimizer.optimizer.step()
        return graph


def capture_step(run: Run, batches: Sequence[MicroBatch]) -> CapturedStep:
    """The graphs of a run's steps, after a check that they give the bits of an eager micro-batch.

    Args:
        run: before the first step of this start.
        batches: two whole micro-batches, the first to capture, the second to check.

    Raises:
        ConfigError: torch cannot capture the micro-batch, or its graph computes something else.
    """
    model, device = run.model, run.ranks.device
    model.train()
    with restored_generators(device):
        with restored_buffers(model):
            seed_generators(device, run.seed, "try out", 0)
            try:
                step = CapturedStep(run, batches[0])
            except RuntimeError as error:
                rule = f"cannot be used, as CUDA cannot capture this task's step ({first_line(error)})"
                raise refuse("engine", "captured", f"{rule}; use --engine eager") from error
        scaler = run.ranks.accelerator.scaler
        scale = None if scaler is None else torch.ones((), device=device)

        def outcome(compute: Callable[..., Tensor | None]) -> dict[str, Tensor]:
            with restored_buffers(model):
                seed_generators(device, run.seed, "try out", 1)
                scores = StepScores(run.task, run.traits.loss)
                share = compute(batches[1], scale, scores)
                assert share is not None, "both micro-batches are whole"
                row = scores.last_row()
                return {
                    "loss": share,
                    "metric": share if row is None else row,
                    "gradient": torch.cat([each.flatten().double() for each in run.reduction.packed()]),
                    **{f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()},
                }

        captured = outcome(step.add_gradient)
        eager = outcome(lambda batch, scale, scores: add_gradient(run, batch, scale, scores, NO_OBSERVER))
    for name, value in eager.items():
        if not torch.equal(captured[name].nan_to_num(), value.nan_to_num()):
            rule = f"gives a different {name} from an eager step: a graph repeats what Python did in one pass"
            raise refuse("engine", "captured", f"{rule}; use --engine eager")
    return step


def _can_capture_update(run: Run) -> bool:
    """Whether it needs no answer from the device or other ranks, and reads its rates from the device."""
    is_fused = all(group.get("fused") for group in run.optimizer.param_groups)
    waits = run.ranks.accelerator.scaler is not None or run.traits.loss.has_own_count
    return is_fused and not waits and run.owners is None


@contextmanager
def _no_waits() -> Iterator[None]:
    """Lets an operation that waits for the device raise a RuntimeError, as it would in a capture."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _side_stream(device: torch.device) -> Iterator[torch.cuda.Stream]:
    """A stream of its own, which a capture needs: it begins after the current one, which then waits."""
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield stream
    current.wait_stream(stream)


def _tensors_and_layout(batch: MicroBatch) -> tuple[list[Tensor], list[object]]:
    """The tensors of a micro-batch, and all else that a graph of it depends on."""
    leaves, structure = pytree.tree_flatten((batch.inputs, batch.targets))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    others = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
    shapes = [(tensor.shape, tensor.dtype) for tensor in tensors]
    return tensors, [structure, others, shapes, batch.num_samples, batch.weight]
