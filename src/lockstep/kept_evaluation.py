"""The last and the best evaluation, kept in the run folder: enough to show them without data or weights."""

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

EVALUATIONS_FOLDER = "evaluations"
LAST, BEST = "last", "best"
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


class EvaluationFiles:
    """Keeps each evaluation of a run as it is recorded, in place of the one before, and the best of them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        for which in (LAST, BEST):  # of steps that a resume takes anew
            kept = read_evaluation(run.folder, which)
            if kept is not None and kept.step > run.step:
                _path(run.folder, which).unlink()
        best = read_evaluation(run.folder, BEST)
        self._best_accuracy = best.scores.accuracy if best else -1.0

    def log(self, record: Record) -> None:
        if "test_loss" in record:
            assert self._run.evaluation is not None
            step, scores = self._run.evaluation
            mistakes = scores.worst_mistakes(NUM_MISTAKES)
            images = self._run.test_store.images[mistakes].to("cpu")
            kept = KeptEvaluation(step=step, scores=scores, mistakes=mistakes, images=images)
            content = as_npz(kept)
            (self._run.folder / EVALUATIONS_FOLDER).mkdir(exist_ok=True)
            write_atomically(_path(self._run.folder, LAST), content)
            if scores.accuracy > self._best_accuracy:
                self._best_accuracy = scores.accuracy
                write_atomically(_path(self._run.folder, BEST), content)

    def close(self, status: Status, reason: str = "") -> None:
        pass


def as_npz(kept: KeptEvaluation) -> bytes:
    """The file of an evaluation: plain arrays, a row a sample."""
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
    return buffer.getvalue()


def read_evaluation(folder: Path, which: str = LAST) -> KeptEvaluation | None:
    """The last or the best evaluation that a run folder keeps; None before the first one.

    Raises:
        ConfigError: the file is damaged.
    """
    path = _path(folder, which)
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


def _path(folder: Path, which: str) -> Path:
    return folder / EVALUATIONS_FOLDER / f"{which}.npz"
