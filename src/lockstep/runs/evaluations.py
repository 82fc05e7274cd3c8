"""The last and the best evaluation, kept in the run folder: enough to show them without data or weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lockstep.errors import ConfigError
from lockstep.models import Evaluation
from lockstep.runs.files import Record, write_atomically
from lockstep.runs.sinks import Status

EVALUATIONS_FOLDER = "evaluations"
LAST, BEST = "last", "best"
NUM_MISTAKES = 25


@dataclass(frozen=True, kw_only=True)
class SavedEvaluation:
    """An evaluation and its worst mistakes."""

    scores: Evaluation
    mistakes: list[int]
    """Sample ids in the test set, the highest loss first, at most NUM_MISTAKES."""
    images: torch.Tensor
    """Of the mistakes, uint8 (mistakes, 28, 28)."""


class EvaluationSink:
    """Keeps each evaluation of a run as it is recorded, in place of the one before, and the best of them."""

    def __init__(
        self, folder: Path, first_step: int, newest: Callable[[], Evaluation | None], images: torch.Tensor
    ) -> None:
        """Deletes what is of later steps: a resumed run takes them again.

        Args:
            folder: the run folder.
            first_step: steps done when this start begins.
            newest: gives the evaluation that a record has just told of.
            images: of the test set, uint8 (samples, 28, 28).
        """
        self._folder, self._newest, self._images = folder, newest, images
        for which in (LAST, BEST):
            kept = read_evaluation(folder, which)
            if kept is not None and kept.scores.step > first_step:
                _path(folder, which).unlink()
        best = read_evaluation(folder, BEST)
        self._best_accuracy = best.scores.accuracy if best else -1.0

    def log(self, record: Record) -> None:
        if "test_loss" in record:
            scores = self._newest()
            assert scores is not None
            assert scores.step == record["step"]
            mistakes = scores.worst_mistakes(NUM_MISTAKES)
            images = self._images[mistakes].to("cpu")
            content = as_npz(SavedEvaluation(scores=scores, mistakes=mistakes, images=images))
            (self._folder / EVALUATIONS_FOLDER).mkdir(exist_ok=True)
            write_atomically(_path(self._folder, LAST), content)
            if scores.accuracy > self._best_accuracy:
                self._best_accuracy = scores.accuracy
                write_atomically(_path(self._folder, BEST), content)

    def close(self, status: Status, reason: str = "") -> None:
        pass


def as_npz(kept: SavedEvaluation) -> bytes:
    """The file of an evaluation: plain arrays, a row a sample."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        step=kept.scores.step,
        labels=kept.scores.labels.numpy().astype(np.uint8),
        predictions=kept.scores.predictions.numpy().astype(np.uint8),
        confidences=kept.scores.confidences.numpy(),
        losses=kept.scores.losses.numpy(),
        mistake_ids=np.array(kept.mistakes, dtype=np.int64),
        mistake_images=kept.images.numpy(),
    )
    return buffer.getvalue()


def read_evaluation(folder: Path, which: str = LAST) -> SavedEvaluation | None:
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
            step=step,
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
    return SavedEvaluation(scores=scores, mistakes=mistakes, images=images)


def _path(folder: Path, which: str) -> Path:
    return folder / EVALUATIONS_FOLDER / f"{which}.npz"
