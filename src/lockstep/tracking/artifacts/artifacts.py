"""What becomes a W&B artifact: a run's checkpoints, and the data set it was trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    checkpoints_in,
    read_metrics,
    read_starts,
    to_json,
)
from lockstep.runs.checkpoints.checkpoint import CHECKPOINT_FILES, load_checkpoint, weights_sha256
from lockstep.runs.checkpoints.checkpoint_folder import best_checkpoint

ARTIFACT_CHECKPOINT = "checkpoint"
"""Inside a model artifact."""
UPLOADED_IN_PLACE: dict[str, Any] = {"policy": "immutable", "skip_cache": True}
"""By default wandb copies a file into the home folder before the upload, and keeps it there after it."""
EVALUATED = ("test_", "validation_", "ema_test_", "ema_validation_")
"""Begin the names of the values in a checkpoint's `info` that become metadata."""


def model_artifacts(wandb: Any, folder: Path, run_id: str) -> Iterator[tuple[Any, list[str]]]:
    """The newest checkpoint, and the best if there is one, as artifacts to resume from, each with aliases."""
    aliases: dict[Path, list[str]] = {}
    best = best_checkpoint(folder / CHECKPOINTS_FOLDER)
    if best is not None:
        aliases[best] = ["best"]
    for newest in checkpoints_in(folder / CHECKPOINTS_FOLDER)[-1:]:
        # The newest comes last: W&B itself gives the alias `latest` to what is logged last.
        aliases.setdefault(newest, []).append("latest")
    for path, names in aliases.items():
        checkpoint = load_checkpoint(path)
        artifact = wandb.Artifact(
            re.sub(r"[^\w.-]", "-", folder.name),
            "model",
            metadata={
                "step": checkpoint.step,
                **{name: value for name, value in checkpoint.info.items() if name.startswith(EVALUATED)},
                "weights_sha256": weights_sha256(checkpoint.weights),
                "run_id": run_id,
            },
        )
        for name in CHECKPOINT_FILES:  # alone: a checkpoint from elsewhere may hold anything else
            if (path / name).exists():
                artifact.add_file(str(path / name), f"{ARTIFACT_CHECKPOINT}/{name}", **UPLOADED_IN_PLACE)
        artifact.add_file(str(folder / SETTINGS_FILE), **UPLOADED_IN_PLACE)
        # Up to the checkpoint's step: a run that resumes from it computes the later ones again.
        for name, entries in ((METRICS_FILE, read_metrics(folder)), (STARTS_FILE, read_starts(folder))):
            with artifact.new_file(name) as file:
                file.writelines(
                    to_json(entry) + "\n" for entry in entries if entry["step"] <= checkpoint.step
                )
        yield artifact, names


def dataset_artifact(wandb: Any, path: Path) -> Any:
    """A reference to the data set that a run folder's DATASET_FILE describes: its digest, not its content."""
    description = json.loads(path.read_text())
    artifact = wandb.Artifact(description["name"], "dataset", metadata=description)
    artifact.add_reference(f"sha256:{description['sha256']}", name=description["name"])
    return artifact
