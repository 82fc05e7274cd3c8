"""The confusion matrix and the worst mistakes of a run's evaluations as W&B tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.runs.evaluations import BEST, LAST, read_evaluation


def evaluation_tables(wandb: Any, folder: Path) -> dict[str, Any]:
    """Table name → table, for the last and the best evaluation that a run folder holds."""
    tables = {}
    for which in (LAST, BEST):
        saved = read_evaluation(folder, which)
        if saved is None:
            continue
        scores, confusion = saved.scores, saved.scores.confusion.tolist()
        tables[f"{which}_confusion"] = wandb.Table(
            columns=["label", *(f"predicted {label}" for label in range(len(confusion)))],
            data=[[label, *counts] for label, counts in enumerate(confusion)],
        )
        tables[f"{which}_mistakes"] = wandb.Table(
            columns=["image", "label", "prediction", "probability", "sample_id"],
            data=[
                [
                    wandb.Image(image.numpy()),
                    scores.labels[sample].item(),
                    scores.predictions[sample].item(),
                    scores.confidences[sample].item(),
                    sample,
                ]
                for sample, image in zip(saved.mistakes, saved.images, strict=True)
            ],
        )
    return tables
