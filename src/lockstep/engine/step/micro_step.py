"""Forward, loss and backward of one micro-batch: what a step repeats, eagerly or as a CUDA graph."""

from __future__ import annotations

from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine.evaluation.step_scores import StepScores
from lockstep.engine.run import Run
from lockstep.engine.step.observer import Observer
from lockstep.task import share_of_mean, training_forward


def add_gradient(
    run: Run, batch: MicroBatch, scale: Tensor | None, scores: StepScores | None, observer: Observer
) -> Tensor:
    """Adds the gradient of a micro-batch's share of the global batch's mean loss to `.grad`.

    To be called within `run.reduction.accumulate`, after the generators were seeded.

    Args:
        run: the run.
        batch: one micro-batch.
        scale: the loss scale of fp16, (); None in other precisions.
        scores: measures the parts of the loss and the metrics; None: nothing is measured.
        observer: called after the forward and after the loss.

    Returns:
        The share, detached, shape ().

    Raises:
        ConfigError: what the loss or a metric returned has none of the forms of a measurement.
    """
    outputs, targets = training_forward(run.task, run.reduction.model, batch)
    observer.on_forward(run, batch, outputs)
    loss = run.task.loss(outputs, targets)
    observer.on_loss(run, batch, loss)
    share = share_of_mean(loss, batch)
    run.reduction.add_count(share.count)
    share.total.backward(gradient=scale)  # that is (loss * scale).backward()
    run.reduction.end_backward()
    if scores is not None:
        scores.add(outputs, targets, loss, batch.num_samples)
    return share.total.detach()
