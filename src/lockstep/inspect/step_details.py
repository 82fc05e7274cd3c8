"""The details of a step: losses and predictions by sample, gradient norms, a picture of the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine import NO_OBSERVER, Observer, Run, agreed_digest, step_record, take_step
from lockstep.inspect.non_finite import record_non_finite
from lockstep.plan import PADDING
from lockstep.report.contact_sheet import draw_contact_sheet
from lockstep.runs import Record, write_atomically


class SampleScores(Observer):
    """Keeps each sample's loss and prediction, and each parameter's gradient norm, of one step."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        """One tensor per micro-batch, (batch,)."""
        self.predictions: list[Tensor] = []
        """One tensor per micro-batch, (batch,)."""
        self.gradient_norms: dict[str, float] = {}
        """By name, after clipping: as passed to the optimizer."""

    def as_lists(self) -> tuple[list[float], list[int]]:
        """(losses, predictions) of all samples, in their order."""
        losses = [loss for batch in self.losses for loss in batch.float().tolist()]
        return losses, [prediction for batch in self.predictions for prediction in batch.tolist()]

    def on_forward(self, run: Run, batch: MicroBatch, logits: Tensor) -> None:
        self.predictions.append(logits.detach().argmax(dim=1))

    def on_loss(self, run: Run, batch: MicroBatch, losses: Tensor) -> None:
        self.losses.append(losses.detach())

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        named = run.model.named_parameters()
        self.gradient_norms = {name: p.grad.norm().item() for name, p in named if p.grad is not None}


def recorded_step(run: Run, observer: Observer = NO_OBSERVER) -> Record:
    """Takes one step; returns its record with the digest of the new weights. All ranks must call it."""
    result = take_step(run, observer)
    digest = agreed_digest(run.model, run.ranks, run.step)
    return step_record(run, result) | {"weights_digest": digest, "step": run.step}


def take_detailed_step(run: Run) -> tuple[dict[str, Any], Record]:
    """Takes one step; returns its details as JSON values, and its record. All ranks must call it."""
    slots = run.plan.step_ids(run.step)  # (num_slots, micro_size)
    scores = SampleScores()
    with record_non_finite(run.model) as origins:
        record = recorded_step(run, scores)
    losses, predictions = scores.as_lists()
    by_rank = run.ranks.gather_objects((losses, predictions))  # ranks are in slot order
    first_origins = [origin for origin in run.ranks.gather_objects(origins[:1]) if origin]
    return {
        "step": run.step,
        "ids": slots[slots != PADDING].tolist(),
        "losses": [loss for losses, _ in by_rank for loss in losses],
        "predictions": [prediction for _, predictions in by_rank for prediction in predictions],
        "numbers": {name: value for name, value in record.items() if name != "step"},
        "gradient_norms": scores.gradient_norms,
        "first_not_finite": first_origins[0][0] if first_origins else "",
    }, record


def write_step(folder: Path, run: Run, details: dict[str, Any]) -> None:
    """Writes step.json and contact-sheet.png."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, digits = run.train_images.read(torch.tensor(details["ids"]))
    labels = digits.tolist()
    write_atomically(folder / "step.json", json.dumps({**details, "labels": labels}, indent=1) + "\n")
    notes = [f"#{sample}" for sample in details["ids"]]
    title = f"{run.folder.name}, step {run.step:,}: label → prediction"
    sheet = draw_contact_sheet(pixels.to("cpu").numpy(), labels, details["predictions"], notes, title)
    sheet.save(folder / "contact-sheet.png")
