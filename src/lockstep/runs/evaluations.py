"""The last and the best evaluation in the run folder: enough to show them without data or weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lockstep.errors import ConfigError
from lockstep.runs.files import Record, write_atomically
from lockstep.runs.sinks import Status
from lockstep.task import Evaluation

EVALUATIONS_FOLDER = "evaluations"
LAST, BEST = "last", "best"
NUM_MISTAKES = 25
"""How many misclassified samples are saved with an evaluation."""


@dataclass(frozen=True, kw_only=True)
class SavedEvaluation:
    """An evaluation and its worst mistakes."""

    scores: Evaluation
    mistakes: list[int]
    """Sample ids in the test set, the highest loss first, at most NUM_MISTAKES."""
    images: torch.Tensor
    """The images of these mistakes, uint8 (mistakes, height, width)."""


class EvaluationSink:
    """The sink that saves evaluations: each replaces the last one, and the best one is saved too."""

    def __init__(
        self, folder: Path, first_step: int, newest: Callable[[], Evaluation | None], images: torch.Tensor
    ) -> None:
        """Deletes evaluations of later steps: a resumed run makes them again.

        Args:
            folder: the run folder.
            first_step: the step that this start begins after.
            newest: returns the evaluation that the current record is about.
            images: the test set, uint8 (samples, height, width).
        """
        self._folder, self._newest, self._images = folder, newest, images
        for which in (LAST, BEST):
            saved = read_evaluation(folder, which)
            if saved is not None and saved.scores.step > first_step:
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
            npz = to_npz(SavedEvaluation(scores=scores, mistakes=mistakes, images=images))
            (self._folder / EVALUATIONS_FOLDER).mkdir(exist_ok=True)
            write_atomically(_path(self._folder, LAST), npz)
            if scores.accuracy > self._best_accuracy:
                self._best_accuracy = scores.accuracy
                write_atomically(_path(self._folder, BEST), npz)

    def close(self, status: Status, reason: str = "") -> None:
        pass


def to_npz(saved: SavedEvaluation) -> bytes:
    """An evaluation as the bytes of an .npz file: plain arrays with one row per sample."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        step=saved.scores.step,
        labels=saved.scores.labels.numpy().astype(np.uint8),
        predictions=saved.scores.predictions.numpy().astype(np.uint8),
        confidences=saved.scores.confidences.numpy(),
        losses=saved.scores.losses.numpy(),
        mistake_ids=np.array(saved.mistakes, dtype=np.int64),
        mistake_images=saved.images.numpy(),
    )
    return buffer.getvalue()


def read_evaluation(folder: Path, which: str = LAST) -> SavedEvaluation | None:
    """The last or the best evaluation in a run folder; None if there is none yet.

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
            f"{path}: is damaged ({error}); delete it, the next evaluation writes a new one"
        ) from error
    return SavedEvaluation(scores=scores, mistakes=mistakes, images=images)


def _path(folder: Path, which: str) -> Path:
    return folder / EVALUATIONS_FOLDER / f"{which}.npz"
