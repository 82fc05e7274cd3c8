"""Evaluations in the run folder: enough to show them without data or weights.

Each is named after the set and the weights that were scored: 'last' and 'best', and with train.ema 'ema' and
'best-ema', of the test set; 'validation-last' and so on, of the validation set.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lockstep.config import NoFile, read_file, unreadable
from lockstep.data import Samples
from lockstep.runs.checkpoints.weights import BEST, BEST_EMA, EMA, LAST, OF_A_RUN
from lockstep.runs.folder.files import EVALUATIONS_FOLDER, to_json, write_atomically
from lockstep.runs.folder.set_aside import set_aside
from lockstep.runs.history.history import Record, warn_once
from lockstep.runs.sinks import Status
from lockstep.task import Evaluation, is_classification, worst_mistakes

TEST, VALIDATION = "test", "validation"
NUM_MISTAKES = 25
"""How many misclassified samples are saved with an evaluation."""
ZIP = b"PK\x03\x04"
"""Begins an .npz file. NumPy takes a file without it for a pickle, and then recommends to load that."""
COLUMN = "column_"
"""Begins the name of an array with a row for each sample."""


@dataclass(frozen=True, kw_only=True)
class SavedEvaluation:
    """An evaluation and, of a classification, its worst mistakes."""

    scores: Evaluation
    mistakes: list[int]
    """Sample ids in the set that was scored, the highest loss first, at most NUM_MISTAKES."""
    images: torch.Tensor | None
    """The images of these mistakes, as `Samples.pictures` gives them, if the samples are images."""


class EvaluationSink:
    """The sink that saves evaluations: each replaces the last one, and the best one is saved too."""

    def __init__(
        self,
        folder: Path,
        first_step: int,
        samples: Samples,
        newest: Callable[[], Sequence[Evaluation]],
        is_best: Callable[[], bool],
    ) -> None:
        """Sets aside what is damaged, and evaluations of later steps: a resumed run makes them again.

        Args:
            folder: the run folder.
            first_step: the step that this start begins after.
            samples: what is scored.
            newest: returns the newest evaluations, if the current record is about any: of the weights, and
                of their moving average.
            is_best: returns whether they are the best so far.
        """
        self._folder, self._samples, self._newest, self._is_best = folder, samples, newest, is_best
        for path in (_path(folder, which, split) for split in (TEST, VALIDATION) for which in OF_A_RUN):
            try:
                saved = _load(path)
            except _Damage as damage:
                moved = set_aside(path, folder)
                warn_once(f"{path} is damaged ({damage}) and was set aside as {moved}")
            else:
                if saved is not None and saved.scores.step > first_step:
                    set_aside(path, folder)

    def log(self, record: Record) -> None:
        for scores in self._newest():
            if scores.step == record["step"] and next(iter(scores.record())) in record:
                last, best = (EMA, BEST_EMA) if scores.is_average else (LAST, BEST)
                names = [last, best] if self._is_best() else [last]
                write_evaluation(self._folder, names, scores, self._samples)

    def close(self, status: Status, reason: str = "") -> None:
        pass


def write_evaluation(folder: Path, names: Sequence[str], scores: Evaluation, samples: Samples) -> None:
    """Saves an evaluation in a run folder under names of weights, such as 'last' and 'best'."""
    npz = to_npz(with_mistakes(scores, samples))
    (folder / EVALUATIONS_FOLDER).mkdir(exist_ok=True)
    for name in names:
        write_atomically(_path(folder, name, scores.split), npz)


def with_mistakes(scores: Evaluation, samples: Samples) -> SavedEvaluation:
    """An evaluation with the pictures of its worst mistakes, as far as it has any."""
    mistakes = worst_mistakes(scores, NUM_MISTAKES) if is_classification(scores) else []
    images = samples.pictures(torch.tensor(mistakes, dtype=torch.int64))
    return SavedEvaluation(scores=scores, mistakes=mistakes, images=images)


def to_npz(saved: SavedEvaluation) -> bytes:
    """An evaluation as the bytes of an .npz file: its facts as JSON, and arrays with a row per sample."""
    buffer, scores = io.BytesIO(), saved.scores
    facts = {
        "step": scores.step,
        "num_samples": scores.num_samples,
        "values": dict(scores.values),
        "headline": scores.headline,
        "higher_is_better": scores.higher_is_better,
        "split": scores.split,
        "is_average": scores.is_average,
    }
    arrays: dict[str, Any] = {f"{COLUMN}{name}": _compact(column) for name, column in scores.columns.items()}
    if saved.images is not None:
        arrays["mistake_images"] = saved.images.numpy()
    ids = np.array(saved.mistakes, dtype=np.int64)
    np.savez_compressed(buffer, facts=np.array(to_json(facts)), mistake_ids=ids, **arrays)
    return buffer.getvalue()


def newest_evaluation(folder: Path) -> SavedEvaluation | None:
    """That of the last weights: of the test set, or until that is scored of the validation set; None if none.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_evaluation(folder, LAST, TEST) or read_evaluation(folder, LAST, VALIDATION)


def read_evaluation(folder: Path, which: str = LAST, split: str = TEST) -> SavedEvaluation | None:
    """The evaluation of 'last', 'best', 'ema' or 'best-ema' weights in a run folder.

    None if there is none yet, or it is damaged.

    Raises:
        ConfigError: it cannot be read.
    """
    path = _path(folder, which, split)
    try:
        return _load(path)
    except _Damage as damage:
        warn_once(f"{path} is damaged ({damage}); continuing without it")
        return None


class _Damage(Exception):
    """A file holds no evaluation; the message says why."""


def _load(path: Path) -> SavedEvaluation | None:
    """The evaluation in a file; None if there is none, or it is of a version that kept less."""
    try:
        content = read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except NoFile as error:
        raise _Damage(str(error)) from error
    except OSError as error:
        raise unreadable(error) from error
    if not content.startswith(ZIP):
        raise _Damage("is not an .npz file")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if "facts" not in file.files:
                return None
            facts = json.loads(str(file["facts"]))
            arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "facts"}
        columns = {
            name.removeprefix(COLUMN): array for name, array in arrays.items() if name.startswith(COLUMN)
        }
        scores = Evaluation(**facts, columns=columns)
        mistakes, images = arrays["mistake_ids"].tolist(), arrays.get("mistake_images")
    except Exception as error:  # zipfile, zlib, NumPy and JSON each have their own for a damaged file
        raise _Damage(" ".join(f"{type(error).__name__}: {error}".split())) from error
    return SavedEvaluation(scores=scores, mistakes=mistakes, images=images)


def _compact(column: torch.Tensor) -> np.ndarray:
    """The values of a column as an array, small classes as bytes."""
    array = column.numpy()
    is_small = array.dtype == np.int64 and array.size > 0 and array.min() >= 0 and array.max() < 256
    return array.astype(np.uint8) if is_small else array


def _path(folder: Path, which: str, split: str) -> Path:
    prefix = "" if split == TEST else f"{split}-"
    return folder / EVALUATIONS_FOLDER / f"{prefix}{which}.npz"
