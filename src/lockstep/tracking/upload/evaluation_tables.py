"""The confusion matrix and the worst mistakes of a run's evaluations as W&B tables."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from lockstep.runs import read_task_facts
from lockstep.runs.checkpoints.weights import OF_A_RUN
from lockstep.runs.saved_evaluations import TEST, VALIDATION, read_evaluation
from lockstep.task import CONFIDENCE, LABEL, PREDICTION, confusion, is_classification


def evaluation_tables(wandb: Any, folder: Path) -> dict[str, Any]:
    """Table name → table, for each evaluation of the test set, and of the validation set, in a run folder."""
    tables = {}
    for split, which in product((TEST, VALIDATION), OF_A_RUN):
        saved = read_evaluation(folder, which, split)
        name = which if split == TEST else f"{split}_{which}"
        if saved is None or not is_classification(saved.scores):
            continue
        scores, columns, classes = saved.scores, saved.scores.columns, read_task_facts(folder).classes
        cells = confusion(scores, len(classes)).tolist()
        tables[f"{name}_confusion"] = wandb.Table(
            columns=["label", *(f"predicted {each}" for each in classes)],
            data=[[each, *counts] for each, counts in zip(classes, cells, strict=True)],
        )
        if saved.images is None:
            continue
        tables[f"{name}_mistakes"] = wandb.Table(
            columns=["image", "label", "prediction", "probability", "sample_id"],
            data=[
                [
                    wandb.Image(image.numpy()),
                    classes[columns[LABEL][sample]],
                    classes[columns[PREDICTION][sample]],
                    columns[CONFIDENCE][sample].item(),
                    sample,
                ]
                for sample, image in zip(saved.mistakes, saved.images, strict=True)
            ],
        )
    return tables
