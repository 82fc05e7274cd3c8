"""The run folder's last and best evaluation of the test set, with the worst mistakes as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lockstep.checkpoint import write_atomically
from lockstep.metrics import Record, Status
from lockstep.run import Run

LAST, BEST = "last", "best"
NUM_MISTAKES = 25
MISTAKE_COLUMNS = ("label", "prediction", "probability", "sample_id")


class EvaluationFiles:
    """Takes the records, and at those of an evaluation writes down what is more than a number in it."""

    def __init__(self, run: Run) -> None:
        best = read_evaluation(run.folder, BEST)
        self._run = run
        self._best_accuracy = best["test_accuracy"] if best else -1.0

    def log(self, record: Record) -> None:
        if "test_accuracy" not in record:
            return
        text = json.dumps(evaluation_facts(self._run))
        _path(self._run.folder, LAST).parent.mkdir(exist_ok=True)
        write_atomically(_path(self._run.folder, LAST), text)
        if record["test_accuracy"] > self._best_accuracy:
            self._best_accuracy = record["test_accuracy"]
            write_atomically(_path(self._run.folder, BEST), text)

    def close(self, status: Status, reason: str = "") -> None:
        pass


def evaluation_facts(run: Run) -> dict[str, Any]:
    """The newest evaluation as JSON values: its step, scores, confusion matrix and worst mistakes.

    A mistake is its label, prediction, the probability of that, its place in the test set, and its pixels
    (28, 28), 0 to 255.
    """
    assert run.evaluation is not None
    step, result = run.evaluation
    ids = result.worst_mistakes(NUM_MISTAKES)
    columns = (
        result.labels[ids],
        result.predictions[ids],
        result.confidences[ids],
        ids,
        run.test_store.images[ids],
    )
    values = [column if isinstance(column, list) else column.tolist() for column in columns]
    names = (*MISTAKE_COLUMNS, "pixels")
    return {
        "step": step,
        **result.summary(),
        "mistakes": [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)],
    }


def read_evaluation(folder: Path, name: str) -> dict[str, Any] | None:
    """What `evaluation_facts` was at the last or the best evaluation; None before the first one."""
    path = _path(folder, name)
    return json.loads(path.read_text()) if path.exists() else None


def _path(folder: Path, name: str) -> Path:
    return folder / "evaluations" / f"{name}.json"
