"""The details of a step: what is known of each sample, gradient norms, a picture of a batch of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine import NO_OBSERVER, Observer, Run, agreed_digest, step_record, take_step
from lockstep.inspect.non_finite import record_non_finite
from lockstep.plan import PADDING
from lockstep.report.figures.contact_sheet import draw_contact_sheet
from lockstep.report.figures.figure_style import save_picture
from lockstep.runs import (
    Record,
    check_links,
    check_writable,
    step_name,
    to_json,
    write_atomically,
)
from lockstep.task import LOSS, named_values

REPLAY_FOLDER = "replay"
"""In the run folder."""
MAX_PICTURES = 256
"""A contact sheet of 8192 samples would have 630 MB of pixels."""


class SampleScores(Observer):
    """Keeps what is known of each sample, and each parameter's gradient norm, of one step."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Tensor]] = {}
        """'losses', if the loss gives one per sample, and of a classification 'predictions' and 'labels'; one
        tensor (batch,) per micro-batch."""
        self.gradient_norms: dict[str, float] = {}
        """By name, after clipping: as passed to the optimizer."""

    def as_lists(self) -> dict[str, list[float]]:
        """The columns over all samples, in their order."""
        return {
            name: [value for batch in batches for value in batch.tolist()]
            for name, batches in self.columns.items()
        }

    def on_forward(self, run: Run, batch: MicroBatch, outputs: Any) -> None:
        if run.task.classes:
            self._add("predictions", outputs.detach().argmax(dim=1))
            self._add("labels", batch.targets)

    def on_loss(self, run: Run, batch: MicroBatch, loss: Any) -> None:
        main = named_values("task.loss", loss)[LOSS]
        if isinstance(main, Tensor) and main.shape == (batch.num_samples,):
            self._add("losses", main.detach().float())

    def _add(self, name: str, values: Tensor) -> None:
        self.columns.setdefault(name, []).append(values)

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        named = run.model.named_parameters()
        self.gradient_norms = {name: p.grad.norm().item() for name, p in named if p.grad is not None}


def recorded_step(run: Run, observer: Observer = NO_OBSERVER) -> Record:
    """Takes one step; returns its record with the digest of the new weights. All ranks must call it."""
    result = take_step(run, observer, is_logged=True)
    digest = agreed_digest(run.model, run.ranks, run.step)
    return step_record(run, result) | {"weights_digest": digest, "step": run.step}


def take_detailed_step(run: Run) -> tuple[dict[str, Any], Record]:
    """Takes one step; returns its details as JSON values, and its record. All ranks must call it."""
    slots = run.plan.step_ids(run.step)  # (num_slots, micro_size)
    scores = SampleScores()
    with record_non_finite(run.model) as origins:
        record = recorded_step(run, scores)
    by_rank = run.ranks.gather_objects(scores.as_lists())  # ranks are in slot order
    columns = dict.fromkeys(name for columns in by_rank for name in columns)
    first_origins = [origin for origin in run.ranks.gather_objects(origins[:1]) if origin]
    return {
        "step": run.step,
        "ids": slots[slots != PADDING].tolist(),
        **{name: [value for each in by_rank for value in each.get(name, [])] for name in columns},
        "numbers": {name: value for name, value in record.items() if name != "step"},
        "gradient_norms": scores.gradient_norms,
        "first_not_finite": first_origins[0][0] if first_origins else "",
    }, record


def check_can_write_step(run_folder: Path, output: Path | None) -> None:
    """Checks that `write_step` will be able to write: the run is recomputed before, which may take hours.

    Raises:
        ConfigError: it will not.
    """
    remedy = "give another folder with --output"
    if output is None:
        check_writable(run_folder / REPLAY_FOLDER, "RUN", str(run_folder), remedy)
        check_links(run_folder)
    else:
        check_writable(output, "--output", str(output), remedy)


def write_step(run_folder: Path, output: Path | None, run: Run, details: dict[str, Any]) -> list[Path]:
    """Writes step.json and, of classified images, contact-sheet.png; the paths written.

    Args:
        run_folder: of the run that is replayed.
        output: where they are written; None: in the run folder.
        run: after the step.
        details: of the step, from `take_detailed_step`.

    Raises:
        ConfigError: a link in the run folder leads out of it.
    """
    if output is None:
        check_links(run_folder)
    folder = output or run_folder / REPLAY_FOLDER / step_name(run.step)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "step.json", folder / "contact-sheet.png"]
    write_atomically(paths[0], to_json(details, indent=1) + "\n")
    ids, classes = details["ids"][:MAX_PICTURES], run.task.classes
    pixels = run.train_samples.pictures(torch.tensor(ids))
    if pixels is None or "predictions" not in details:
        return paths[:1]
    notes = [f"#{sample}" for sample in ids]
    labels, predictions = (
        [classes[index] for index in details[name][:MAX_PICTURES]] for name in ("labels", "predictions")
    )
    title = f"{run.folder.name}, step {run.step:,}: label → prediction"
    if len(details["ids"]) > len(ids):
        title += f"\nthe first {len(ids)} of {len(details['ids']):,} samples; all of them are in step.json"
    save_picture(draw_contact_sheet(pixels.numpy(), labels, predictions, notes, title), paths[1])
    return paths
