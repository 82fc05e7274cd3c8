"""The files of a run folder: their names, and how to write one atomically. No torch."""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

from lockstep.config import error_text, is_file, nearest, with_retries
from lockstep.errors import ConfigError, require
from lockstep.runs.folder.disk import written

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
PROFILE_FOLDER = "profile"
"""In a run folder: traces and tables of profiled steps."""
CHECKPOINTS_FOLDER = "checkpoints"
"""A folder for each checkpoint, named after its step."""
EVALUATIONS_FOLDER = "evaluations"
"""The newest evaluation of each kind of weights, and their mistakes."""
WANDB_ID_FILE = "wandb-id"
"""The id of the W&B run that this run is logged to."""
SYNCED_FILE = "wandb-synced"
"""Exists while W&B's server has all of the run."""
WANDB_ENDING_FILE = "wandb-ending.json"
"""How the last start that was logged to W&B ended: its status and, if it failed, the reason."""
STEP_PREFIX = "step-"
PARTIAL = ".partial"
"""Ends the name of what is still being written."""
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What opening a file raises if there is none. Any other OSError means that it may be there, unread."""


def step_name(step: int) -> str:
    """The name of the folder that belongs to a step, such as 'step-00000012'."""
    return f"{STEP_PREFIX}{step:08d}"


def checkpoint_step(path: Path) -> int:
    """The step of a checkpoint, from its folder's name."""
    return int(path.name.removeprefix(STEP_PREFIX))


def is_checkpoint(path: Path) -> bool:
    """Whether a path has the name that a save gives it. A user's copy, such as 'step-best', has another."""
    number = path.name.removeprefix(STEP_PREFIX)
    return number.isdecimal() and path.name == step_name(int(number))


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints under a folder of checkpoints, oldest first.

    Raises:
        ConfigError: the folder cannot be read, so nobody knows which ones there are.
    """
    try:
        names = with_retries(folder, lambda: os.listdir(folder))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(folder):
            return []
        raise ConfigError(
            f"{folder}: cannot be read ({error_text(error)}); make it readable, then run the same command "
            "again"
        ) from error
    return sorted(filter(is_checkpoint, (folder / name for name in names)), key=checkpoint_step)


def newest_checkpoint_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run folder; 0 if there is none."""
    checkpoints = checkpoints_in(folder / CHECKPOINTS_FOLDER)
    return checkpoint_step(checkpoints[-1]) if checkpoints else 0


def run_folder_of(path: Path) -> Path | None:
    """The run folder that a path names, itself or by a checkpoint in it; None if it is neither."""
    candidates = (path, path.resolve().parent.parent)
    return next((folder for folder in candidates if is_file(folder / SETTINGS_FILE)), None)


def which_run(path: Path) -> str:
    """What to do about a path that is no run folder: the one that is probably meant, in it or beside it."""
    inside = sorted(path.glob(f"*/{SETTINGS_FILE}"))
    if inside:
        return f"name one of those in it, such as {inside[-1].parent}"
    beside = {file.parent.name: file.parent for file in path.parent.glob(f"*/{SETTINGS_FILE}")}
    near = nearest(path.name, beside, likeness=0.8)
    return f"perhaps you meant {beside[near]}" if near else "name one, such as runs/NAME"


def check_writable(folder: Path, name: str, value: str, remedy: str) -> None:
    """Checks, before long work and without a trace, that a folder can be made or written.

    Raises:
        ConfigError: it cannot; it names the field with its value, and ends with `remedy`.
    """
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    is_writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    require(is_writable, name, value, f"{str(existing)!r} cannot be written; {remedy}")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text, with null for a number that is not finite: JSON has no such number."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """A tree of JSON values with None in place of each number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file that is there as a whole or not at all, also when several processes write it.

    Raises:
        RunStopped: the disk is full, or cannot be written for now.
    """
    data = content.encode() if isinstance(content, str) else content
    # A name of its own: with a shared one, a process would publish the half that another has written.
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")

    def write() -> None:
        try:
            write_synced(scratch, data)
            os.replace(scratch, path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    written(path, len(data), lambda: with_retries(path, write))


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
