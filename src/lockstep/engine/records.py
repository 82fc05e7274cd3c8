"""From a step just done to the record of it: numbers over all ranks, sent to the sinks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine.evaluation import evaluate
from lockstep.engine.run import Run
from lockstep.runs import Record


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What an optimizer step leaves to be logged. It is on the device, and nothing has waited for it."""

    window: list[MicroBatch]
    """What this rank computed."""
    losses: Tensor
    """Each micro-batch's share of the mean loss, float32 (window,)."""
    logits: list[Tensor]
    """Of each micro-batch, (batch, classes)."""
    grad_norm: Tensor
    """Of the whole gradient, before clipping."""

    def scores(self) -> Tensor:
        """(share of the mean loss, correct predictions) of each micro-batch, (window, 2)."""
        correct = [
            ((logits.argmax(dim=1) == batch.labels) & (batch.ids >= 0)).sum()
            for logits, batch in zip(self.logits, self.window, strict=True)
        ]
        return torch.stack([self.losses, torch.stack(correct)], dim=1)


def training_record(run: Run, result: StepResult) -> Record:
    """What is logged of the step just done, and where the time since the last record went.

    The `_seconds` are those of one step, the mean over steps and ranks. Communication is the gradient sum
    with the wait for slower ranks; DistributedDataParallel sums during the backward, counted as compute.
    """
    record = step_record(run, result)
    first_step, seconds = run.clock.lap(run.step)
    samples = run.plan.samples_seen(run.step) - run.plan.samples_seen(first_step)
    parts = run.timer.read()
    mine = torch.tensor([[parts["data"], parts["communication"], seconds]], dtype=torch.float64)
    data, communication, total = (run.ranks.gather(mine).mean(dim=0) / (run.step - first_step)).tolist()
    return record | {
        "images_per_second": samples / seconds,
        "data_seconds": data,
        "compute_seconds": total - data - communication,
        "communication_seconds": communication,
    }


def step_record(run: Run, result: StepResult) -> Record:
    """The numbers of the step just done, over all ranks. Reading them off the device is a sync point."""
    grad_norm = result.grad_norm
    loss, correct = run.ranks.gather(result.scores()).double().sum(dim=0).tolist()
    record: Record = {
        "loss": loss,
        "accuracy": correct / run.plan.samples_in_step(run.step - 1),
        # Not finite where fp16 overflowed and the step was skipped; JSON has no such number.
        "grad_norm": grad_norm.item() if grad_norm.isfinite() else None,
        **{f"lr/{group['name']}": group["lr"] for group in run.optimizer.param_groups},
    }
    if run.ranks.accelerator.scaler is not None:
        record["loss_scale"] = run.ranks.accelerator.scaler.get_scale()
        record["skipped_steps"] = run.skipped_steps
    return record


def score_test_set(run: Run) -> Record:
    """Scores the test set. All ranks must call it."""
    result = evaluate(run.model, run.criterion, run.test_store, run.ranks, run.step)
    run.evaluation = result
    return {"test_loss": result.loss, "test_accuracy": result.accuracy}


def send_record(run: Run, record: Record) -> None:
    """Sends a record of the step just done to the sinks. All ranks must call it."""
    place: Record = {"step": run.step, "epoch": run.step / run.plan.steps_per_epoch}
    place["samples_seen"] = run.plan.samples_seen(run.step)

    def send() -> None:
        for sink in run.sinks:
            sink.log(place | record)

    run.ranks.on_main(send)  # a full disk ends the run on all ranks
