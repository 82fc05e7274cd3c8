"""What a run folder holds for W&B besides its records: the summary, tables of its evaluations, artifacts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    read_metrics,
    read_starts,
    read_summary,
)
from lockstep.runs.checkpoint import load_checkpoint, weights_sha256
from lockstep.runs.checkpoint_folder import best_checkpoint, checkpoints_in
from lockstep.runs.evaluations import BEST, LAST, read_evaluation

DATASET_FILE = "dataset.json"
CHECKPOINT_FOLDER = "checkpoint"  # its place in an artifact


def summary(folder: Path) -> dict[str, Any]:
    """The best and final numbers, and what they were made on; of a run that is not finished, the best."""
    found = read_summary(folder)
    if found is not None:
        return {name: value for name, value in found.items() if name != "confusion"}  # a table shows it
    best = read_evaluation(folder, BEST)
    return {"best_test_accuracy": best.scores.accuracy} if best else {}


def tables(wandb: Any, folder: Path) -> dict[str, Any]:
    """Confusion matrix and worst mistakes of the last and of the best evaluation, as W&B tables by name."""
    found = {}
    for name in (LAST, BEST):
        kept = read_evaluation(folder, name)
        if kept is None:
            continue
        scores, confusion = kept.scores, kept.scores.confusion.tolist()
        found[f"{name}_confusion"] = wandb.Table(
            columns=["label", *(f"predicted {digit}" for digit in range(len(confusion)))],
            data=[[digit, *row] for digit, row in enumerate(confusion)],
        )
        found[f"{name}_mistakes"] = wandb.Table(
            columns=["image", "label", "prediction", "probability", "sample_id"],
            data=[
                [
                    wandb.Image(image.numpy()),
                    scores.labels[sample].item(),
                    scores.predictions[sample].item(),
                    scores.confidences[sample].item(),
                    sample,
                ]
                for sample, image in zip(kept.mistakes, kept.images, strict=True)
            ],
        )
    return found


def model_artifacts(wandb: Any, folder: Path, run_id: str) -> Iterator[tuple[Any, list[str]]]:
    """The best and the newest checkpoint as artifacts that a run can go on from, each with its aliases."""
    aliases: dict[Path, list[str]] = {}
    best = best_checkpoint(folder / CHECKPOINTS_FOLDER)
    if best is not None:
        aliases[best] = ["best"]
        # Last: W&B gives `latest` to what is logged last, too.
        aliases.setdefault(checkpoints_in(folder / CHECKPOINTS_FOLDER)[-1], []).append("latest")
    for path, names in aliases.items():
        found = load_checkpoint(path)
        artifact = wandb.Artifact(
            re.sub(r"[^\w.-]", "-", folder.name),
            "model",
            metadata={
                "step": found.step,
                "test_accuracy": found.info.get("test_accuracy"),
                "weights_sha256": weights_sha256(found.weights),
                "run_id": run_id,
            },
        )
        artifact.add_dir(str(path), name=CHECKPOINT_FOLDER)
        artifact.add_file(str(folder / SETTINGS_FILE))
        # Up to the checkpoint: what follows is made again.
        for name, entries in ((METRICS_FILE, read_metrics(folder)), (STARTS_FILE, read_starts(folder))):
            with artifact.new_file(name) as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries if entry["step"] <= found.step)
        yield artifact, names


def dataset_artifact(wandb: Any, path: Path) -> Any:
    """The data that a run folder's file names: a reference to it by its digest, without content."""
    facts = json.loads(path.read_text())
    artifact = wandb.Artifact(facts["name"], "dataset", metadata=facts)
    artifact.add_reference(f"sha256:{facts['sha256']}", name=facts["name"])
    return artifact


def histograms(wandb: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """W&B's histograms of the finite values of tensors, by name; none of a tensor without any."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    values = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    return {name: wandb.Histogram(array) for name, array in values.items() if array.size}
