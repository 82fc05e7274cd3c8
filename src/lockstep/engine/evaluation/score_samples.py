"""Exact metrics over a test set shared among ranks: every sample is scored exactly once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.data import Chunks, seed_generators
from lockstep.engine.deterministic_kernels import refused_nondeterminism
from lockstep.engine.model_traits.buffers import restored_buffers
from lockstep.errors import RunStopped
from lockstep.launch import advance, limited
from lockstep.launch.liveness.heartbeats import EVALUATING
from lockstep.launch.ranks.ranks import Ranks
from lockstep.task import (
    LABEL,
    LOSS,
    Evaluation,
    Measure,
    Task,
    call_model,
    check_classes,
    check_labels,
    class_columns,
    compute_loss,
    evaluating,
    measure_batch,
    named_values,
)

Chunk = dict[str, Measure]
"""The values of one chunk by name, on the CPU."""


def evaluate(
    model: nn.Module,
    task: Task,
    chunks: Chunks,
    ranks: Ranks,
    *,
    step: int,
    seed: int,
    split: str = "test",
    is_average: bool = False,
) -> Evaluation:
    """Scores every sample once. All ranks must call it.

    The model is in evaluation mode and is left as it was, its buffers and each
    module's mode included. What it draws is seeded for each chunk.

    Args:
        model: the network.
        task: gives loss and metrics.
        chunks: what this rank scores.
        ranks: share the work.
        step: optimizer steps done so far.
        seed: of the run.
        split: what is scored, 'test' or 'validation'.
        is_average: whether the model has the moving average of the weights.

    Raises:
        ConfigError: the loss or a metric has none of the forms of a measurement, a label is no class, or an
            operation has no deterministic form and the reduction is exact.
        RunStopped: on every rank, if a value is not finite.
        DataError: a chunk cannot be read.
    """
    mine: dict[int, tuple[Chunk, dict[str, Tensor]]] = {}

    def score_chunks() -> None:
        for chunk, ids, batch in zip(chunks.mine, chunks.ids, chunks.batches, strict=True):
            inputs, targets = batch
            seed_generators(ranks.device, seed, "evaluation", chunk)
            with refused_nondeterminism():
                mine[chunk] = score_batch(model, task, inputs, targets, len(ids))
            advance()

    # Not inference_mode: what a model caches under it would fail its next backward.
    with evaluation_mode(model), torch.no_grad(), limited(EVALUATING):
        ranks.on_all(score_chunks)
    mine = {chunk: _on_cpu(*each) for chunk, each in mine.items()}  # after the last forward: a sync point
    everyone = {chunk: each for of_rank in ranks.gather_objects(mine) for chunk, each in of_rank.items()}
    scores = [everyone[chunk][0] for chunk in range(chunks.num_chunks)]
    details = [everyone[chunk][1] for chunk in range(chunks.num_chunks)]
    known = {
        name: torch.cat([chunk[name].per_sample for chunk in scores])  # type: ignore[misc]
        for name in scores[0]
        if all(chunk[name].per_sample is not None for chunk in scores)
    }
    result = Evaluation(
        step=step,
        num_samples=chunks.num_samples,
        values={name: _mean([chunk[name] for chunk in scores], known.get(name)) for name in scores[0]},
        columns=known | {name: torch.cat([each[name] for each in details]) for name in details[0]},
        headline=task.headline,
        higher_is_better=task.higher_is_better,
        split=split,
        is_average=is_average,
    )
    if task.classes:
        check_labels(result.columns[LABEL], len(task.classes))
    stop_if_undefined(result)
    return result


def score_batch(
    model: nn.Module, task: Task, inputs: Any, targets: Any, num_samples: int
) -> tuple[Chunk, dict[str, Tensor]]:
    """The values of a batch in evaluation mode, and what is known of each sample.

    Raises:
        ConfigError: the loss or a metric has none of the forms of a measurement, or the classes do not fit.
    """
    outputs = call_model(model, inputs)
    loss = named_values("task.loss", compute_loss(task, outputs, targets))
    values = measure_batch(task, outputs, targets, loss, num_samples)
    if task.classes:
        check_classes(outputs, targets, len(task.classes))
        return values, class_columns(outputs, targets)
    return values, {}


def stop_if_undefined(result: Evaluation) -> None:
    """Raises RunStopped, if the loss or the headline value of an evaluation is not finite."""
    for name in dict.fromkeys([LOSS, result.headline]):
        value = result.values[name]
        if value is None:
            raise RunStopped(
                f"the evaluation after step {result.step}: the {result.split} {name} is not a finite number; "
                "look for an overflow or a division by zero in the model's evaluation mode, the loss or the "
                "metric"
            )


def _on_cpu(values: Chunk, columns: dict[str, Tensor]) -> tuple[Chunk, dict[str, Tensor]]:
    measures = {
        name: Measure(
            total=each.total.to("cpu", torch.float64),
            count=each.count if isinstance(each.count, int) else each.count.to("cpu", torch.float64),
            per_sample=None if each.per_sample is None else _copy(each.per_sample),
        )
        for name, each in values.items()
    }
    return measures, {name: column.to("cpu") for name, column in columns.items()}


def _copy(values: Tensor) -> Tensor:
    """On the CPU with memory of its own: of a view, the whole tensor would be sent to every rank."""
    return values.float().to("cpu").clone()


def _mean(chunks: list[Measure], per_sample: Tensor | None) -> float | None:
    """The mean over all chunks, summed in float64 in the order of the samples; None if it is not finite."""
    if per_sample is not None:
        mean = per_sample.double().mean().item()
    else:
        count = sum(float(each.count) for each in chunks)
        mean = sum(float(each.total) for each in chunks) / count if count else math.nan
    return mean if math.isfinite(mean) else None


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode. Each module's own mode and all buffers come back afterwards."""
    with restored_buffers(model), evaluating(model):
        yield
