"""The files of a run folder: their names, how to read them, and how to write one atomically. No torch."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import yaml

from lockstep.errors import ConfigError

SETTINGS_FILE = "config.yaml"
"""The settings of the newest start."""
STARTS_FILE = "starts.jsonl"
"""A line per start: its first step, and what it ran on."""
METRICS_FILE = "metrics.jsonl"
"""A record per logged step."""
SUMMARY_FILE = "summary.json"
"""The result of a finished run."""
TASK_FILE = "task.json"
"""How the task of the run is scored."""
DATASET_FILE = "dataset.json"
"""Name, sizes and digest of the data."""
RUN_FORMAT = 3
"""How a run draws its random numbers, recorded with each start. 1: dropout by sample, short batches padded.
2: all draws of a forward by slot, nothing padded. 3: the order of the samples by a Feistel network."""
CHECKPOINTS_FOLDER = "checkpoints"
"""A folder for each checkpoint, named after its step."""
WANDB_ID_FILE = "wandb-id"
"""The id of the W&B run that this run is logged to."""
SYNCED_FILE = "wandb-synced"
"""Exists while W&B's server has all of the run."""
STEP_PREFIX = "step-"
Record = dict[str, Any]
"""A flat dict of JSON values that belongs to its `step`; the numbers in it are global, over all ranks."""


def read_settings(folder: Path) -> dict[str, Any]:
    """The config tree of a run."""
    return yaml.safe_load((folder / SETTINGS_FILE).read_text())


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """The starts of a run, oldest first: the step each began after, and its environment."""
    return _lines(folder / STARTS_FILE)


def read_metrics(folder: Path) -> list[Record]:
    """The records of a run."""
    return _lines(folder / METRICS_FILE)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run; None if the run is not finished."""
    path = folder / SUMMARY_FILE
    return json.loads(path.read_text()) if path.exists() else None


def resume_steps(starts: list[dict[str, Any]]) -> list[int]:
    """The steps after which a run was resumed, without resumes whose steps a later start computed again."""
    steps: list[int] = []
    for start in starts:
        steps = [step for step in steps if step < start["step"]] + [start["step"]]
    return [step for step in steps if step > 0]


def step_name(step: int) -> str:
    """The name of the folder that belongs to a step, such as 'step-00000012'; names sort as steps do."""
    return f"{STEP_PREFIX}{step:08d}"


def checkpoint_step(path: Path) -> int:
    """The step of a checkpoint, from its folder's name."""
    return int(path.name.removeprefix(STEP_PREFIX))


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints under a folder of checkpoints, oldest first."""
    named = folder.glob(f"{STEP_PREFIX}*")
    checkpoints = [path for path in named if path.name[len(STEP_PREFIX) :].isdecimal()]
    return sorted(checkpoints, key=checkpoint_step)


def newest_checkpoint_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run folder; 0 if there is none."""
    checkpoints = checkpoints_in(folder / CHECKPOINTS_FOLDER)
    return checkpoint_step(checkpoints[-1]) if checkpoints else 0


def recorded_run(word: str) -> Path:
    """The run folder that a command-line argument names.

    Raises:
        ConfigError: it is not a run folder, or has no records yet.
    """
    folder = Path(word)
    if not (folder / SETTINGS_FILE).exists():
        raise ConfigError(f"RUN = {word!r}: is not a run folder; name one, such as runs/NAME")
    if not read_metrics(folder):
        raise ConfigError(f"RUN = {word!r}: has no records yet; wait for train.log_every steps")
    return folder


def _lines(path: Path) -> list[dict[str, Any]]:
    """One JSON object per line; a last line that a kill cut short is skipped.

    Raises:
        ConfigError: any other line is not JSON.
    """
    lines = path.read_text().split("\n") if path.exists() else []
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise ConfigError(f"{path}: is damaged ({error}); repair it, or move it away") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file that is there as a whole or not at all, also when several processes write it."""
    # A name of its own: with a shared one, a process would publish the half that another has written.
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        write_synced(scratch, content.encode() if isinstance(content, str) else content)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
