"""The newest evaluation, kept in the run folder: enough to draw it later, without data or weights."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lockstep.checkpoint import write_atomically
from lockstep.evaluate import Evaluation
from lockstep.metrics import Record, Status
from lockstep.run import Run

EVALUATION_FILE = "evaluation.npz"
NUM_MISTAKES = 25


@dataclass(frozen=True, kw_only=True)
class KeptEvaluation:
    """An evaluation, when it was made, and its worst mistakes."""

    step: int
    scores: Evaluation
    mistakes: list[int]
    """Sample ids in the test set, the highest loss first, at most NUM_MISTAKES."""
    images: torch.Tensor
    """Of the mistakes, uint8 (mistakes, 28, 28)."""


class EvaluationFile:
    """Keeps each evaluation of a run as it is recorded, in place of the one before."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def log(self, record: Record) -> None:
        if "test_loss" in record:
            assert self._run.evaluation is not None
            step, scores = self._run.evaluation
            mistakes = scores.worst_mistakes(NUM_MISTAKES)
            images = self._run.test_store.images[mistakes].to("cpu")
            kept = KeptEvaluation(step=step, scores=scores, mistakes=mistakes, images=images)
            write_evaluation(self._run.folder, kept)

    def close(self, status: Status) -> None:
        pass


def write_evaluation(folder: Path, kept: KeptEvaluation) -> None:
    """Writes evaluation.npz: plain arrays, a row a sample."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        step=kept.step,
        labels=kept.scores.labels.numpy().astype(np.uint8),
        predictions=kept.scores.predictions.numpy().astype(np.uint8),
        confidences=kept.scores.confidences.numpy(),
        losses=kept.scores.losses.numpy(),
        mistake_ids=np.array(kept.mistakes, dtype=np.int64),
        mistake_images=kept.images.numpy(),
    )
    write_atomically(folder / EVALUATION_FILE, buffer.getvalue())


def read_evaluation(folder: Path) -> KeptEvaluation | None:
    """The evaluation that a run folder keeps; None before the first one."""
    path = folder / EVALUATION_FILE
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        scores = Evaluation(
            losses=torch.from_numpy(arrays["losses"]),
            predictions=torch.from_numpy(arrays["predictions"]).long(),
            confidences=torch.from_numpy(arrays["confidences"]),
            labels=torch.from_numpy(arrays["labels"]).long(),
        )
        return KeptEvaluation(
            step=int(arrays["step"]),
            scores=scores,
            mistakes=arrays["mistake_ids"].tolist(),
            images=torch.from_numpy(arrays["mistake_images"]),
        )
