"""The newest evaluation, kept in the run folder: enough to draw it later, without data or weights."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lockstep.checkpoint import write_atomically
from lockstep.errors import ConfigError
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
    """The evaluation that a run folder keeps; None before the first one.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / EVALUATION_FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "step"}
            step = int(file["step"])
        scores = Evaluation(
            losses=arrays["losses"],
            predictions=arrays["predictions"].long(),
            confidences=arrays["confidences"],
            labels=arrays["labels"].long(),
        )
        mistakes, images = arrays["mistake_ids"].tolist(), arrays["mistake_images"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path}: is damaged ({error}); remove it, the next evaluation writes it"
        ) from error
    return KeptEvaluation(step=step, scores=scores, mistakes=mistakes, images=images)
