"""The checkpoints of one run: the newest, the best, and which ones stay."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from lockstep.errors import ConfigError
from lockstep.launch.ranks import Ranks
from lockstep.runs.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    read_info,
    remove_checkpoint,
)
from lockstep.runs.files import CHECKPOINTS_FOLDER, STEP_PREFIX, checkpoint_step, checkpoints_in


def load_newest_checkpoint(folder: Path, before: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint (before a step, if one is given), and what is wrong with newer ones."""
    damages: list[str] = []
    for path in reversed(checkpoints_in(folder)):
        if before is not None and checkpoint_step(path) >= before:
            continue
        try:
            return load_checkpoint(path), damages
        except DamagedCheckpoint as damage:
            damages.append(str(damage))
    return None, damages


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints and the best one; to be called after a save."""
    best = best_checkpoint(folder)
    for path in checkpoints_in(folder)[:-keep]:
        if path != best:
            remove_checkpoint(path)
    for leftover in folder.glob(f".{STEP_PREFIX}*"):  # of a save that was killed: .partial or .old
        shutil.rmtree(leftover, ignore_errors=True)


def hide_checkpoints_after(folder: Path, step: int) -> None:
    """Renames what is newer than a step: a run that goes on from there makes it anew."""
    for path in checkpoints_in(folder):
        if checkpoint_step(path) > step:
            aside = folder / f".damaged-{path.name}"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest test accuracy under a folder, the newest of equals, if any."""
    return max(
        checkpoints_in(folder),
        key=lambda path: (read_info(path).get("test_accuracy", -1.0), path.name),
        default=None,
    )


def best_saved_accuracy(folder: Path) -> float:
    """The highest test accuracy that a checkpoint under the folder has; -1 where none has one."""
    return max((read_info(path).get("test_accuracy", -1.0) for path in checkpoints_in(folder)), default=-1.0)


def broadcast_newest_checkpoint(folder: Path, ranks: Ranks, before: int | None = None) -> Checkpoint | None:
    """The newest whole checkpoint (before a step, if one is given), read by the main rank and handed to all.

    Names those that are damaged.
    """

    def read() -> Checkpoint | None:
        found, damages = load_newest_checkpoint(folder / CHECKPOINTS_FOLDER, before)
        for damage in damages:
            print(f"lockstep: damaged checkpoint left out: {damage}", file=sys.stderr, flush=True)
        return found

    return ranks.on_main(read)


def load_named_checkpoint(path: Path) -> Checkpoint:
    """One checkpoint.

    Raises:
        ConfigError: it is damaged, or is none.
    """
    try:
        return load_checkpoint(path)
    except DamagedCheckpoint as damage:
        raise ConfigError(f"CHECKPOINT = {damage}; use another one of the run") from damage
