"""Forward, loss and backward of one micro-batch: what a step repeats, eagerly or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine.evaluation.step_scores import StepScores
from lockstep.engine.run import Run
from lockstep.engine.step.observer import Observer
from lockstep.task import compute_loss, share_of_mean, training_forward


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
    loss = compute_loss(run.task, outputs, targets, batch.ids)
    observer.on_loss(run, batch, loss)
    share = share_of_mean(loss, batch)
    run.reduction.add_count(share.count)
    share.total.backward(gradient=scale)  # that is (loss * scale).backward()
    run.reduction.end_backward()
    if scores is not None:
        scores.add(outputs, targets, loss, batch.num_samples)
    return share.total.detach()


@contextmanager
def kept_casts(accelerator: Accelerator) -> Iterator[None]:
    """Lets the micro-batches of the block share what autocast makes of the weights in bf16 and fp16.

    Accelerate puts each forward under autocast, which at its end forgets them, so that a window of eight
    casts each weight eight times. A cast keeps nothing for its backward, so all backwards can go through it.
    Within the block no weight can be used in two precisions.
    """
    if not accelerator.native_amp:
        yield
        return
    torch.autocast_increment_nesting()  # autocast forgets at the end of the outermost block
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()  # the update changes the weights
