"""Run folders and checkpoints as a run leaves them, made without training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import torch

from lockstep.config import to_yaml
from lockstep.runs import TaskFacts, write_task_facts
from lockstep.runs.checkpoints.checkpoint import Checkpoint
from lockstep.runs.saved_evaluations import SavedEvaluation
from lockstep.task import Evaluation
from runs import small_config

UNREADABLE = Path("/proc/self/mem")
"""Reading it is an input/output error, also for root."""


@contextmanager
def back_in_a_moment(path: Path) -> Iterator[None]:
    """A file whose reading is an input/output error at first, as when the server of its disk is down."""
    content = path.read_bytes()
    path.unlink()
    path.symlink_to(UNREADABLE)

    def come_back() -> None:
        whole = path.with_name(f".{path.name}.whole")
        whole.write_bytes(content)
        os.replace(whole, path)

    timer = Timer(0.1, come_back)
    timer.start()
    yield
    timer.join()


SUMMARY = {
    "test_accuracy": 0.98,
    "test_loss": 0.0625,
    "steps": 40,
    "samples_seen": 2560,
    "train_seconds": 12.25,
    "weights_sha256": "0123456789abcdef",
    "world_size": 4,
    "device": "H100",
}

DIGITS = TaskFacts(
    name="synthetic", headline="accuracy", higher_is_better=True, classes=tuple(map(str, range(10)))
)


def make_run(
    folder: Path, records: list[dict[str, Any]], summary: dict[str, Any] | None = None, **settings: object
) -> str:
    """A run folder with one start and these records, finished if it has a summary; its path."""
    folder.mkdir()
    write_task_facts(folder, DIGITS)
    (folder / "config.yaml").write_text(to_yaml(small_config(folder.parent, **settings)))
    (folder / "starts.jsonl").write_text('{"step": 0, "format": 3, "world_size": 2, "device": "cpu"}\n')
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)


def make_record(step: int, accuracy: float | None = None, split: str = "test") -> dict[str, Any]:
    """The record of a step; with an accuracy, also of an evaluation after it."""
    scores = {} if accuracy is None else {f"{split}_loss": 1 - accuracy, f"{split}_accuracy": accuracy}
    return {
        "step": step,
        "samples_seen": 64 * step,
        "epoch": step / 10,
        "loss": 1 / step,
        "accuracy": 0.5,
        "lr/model": 0.1,
        **scores,
    }


def make_checkpoint(step: int, accuracy: float | None = None) -> Checkpoint:
    """A checkpoint whose weights are a function of its step."""
    generator = torch.Generator().manual_seed(step)
    weights = {"b": torch.randn(3, generator=generator), "a": torch.randn(2, 4, generator=generator)}
    state = {
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(5.0)}}},
        "skipped_steps": 0,
    }
    info = {"train_seconds": 1.5} | (
        {} if accuracy is None else {"validation_accuracy": accuracy, "selection_score": accuracy}
    )
    return Checkpoint(step=step, weights=weights, state=state, info=info)


def make_evaluation(step: int, split: str = "test") -> SavedEvaluation:
    """An evaluation of four samples, of which number 2 is a 7 taken for a 1."""
    scores = Evaluation(
        step=step,
        num_samples=4,
        values={"loss": 0.9, "accuracy": 0.75},
        columns={
            "loss": torch.tensor([0.1, 0.2, 3.0, 0.3]),
            "prediction": torch.tensor([0, 1, 1, 9]),
            "confidence": torch.tensor([0.9, 0.8, 0.95, 0.7]),
            "label": torch.tensor([0, 1, 7, 9]),
        },
        headline="accuracy",
        higher_is_better=True,
        split=split,
    )
    return SavedEvaluation(
        scores=scores, mistakes=[2], images=torch.full((1, 28, 28), 200, dtype=torch.uint8)
    )
