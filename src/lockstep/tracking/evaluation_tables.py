"""The confusion matrix and the worst mistakes of a run's evaluations as W&B tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.runs import read_task_facts
from lockstep.runs.evaluations import BEST, LAST, read_evaluation
from lockstep.task import CONFIDENCE, LABEL, PREDICTION, confusion, is_classification


def evaluation_tables(wandb: Any, folder: Path) -> dict[str, Any]:
    """Table name → table, for the last and the best evaluation that a run folder holds."""
    tables = {}
    for which in (LAST, BEST):
        saved = read_evaluation(folder, which)
        if saved is None or not is_classification(saved.scores):
            continue
        scores, columns, classes = saved.scores, saved.scores.columns, read_task_facts(folder).classes
        cells = confusion(scores, len(classes)).tolist()
        tables[f"{which}_confusion"] = wandb.Table(
            columns=["label", *(f"predicted {name}" for name in classes)],
            data=[[name, *counts] for name, counts in zip(classes, cells, strict=True)],
        )
        if saved.images is None:
            continue
        tables[f"{which}_mistakes"] = wandb.Table(
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
