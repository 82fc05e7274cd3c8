"""The checkpoints of one run: the newest, the best, and which ones are kept or deleted."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path

from lockstep.launch.ranks import Ranks
from lockstep.runs.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    read_info,
    remove_checkpoint,
)
from lockstep.runs.files import CHECKPOINTS_FOLDER, STEP_PREFIX, checkpoint_step, checkpoints_in

SCORE = "score"
"""In a checkpoint's `info`: `Evaluation.score` after that step."""


def load_newest_checkpoint(folder: Path, before: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint (below step `before`, if given), and what is wrong with newer ones."""
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
    """Deletes all checkpoints but the newest `keep` and the best one; to be called after a save.

    That of step 0 also stays: it holds the initial weights of a model that no function can make again.
    """
    best = best_checkpoint(folder)
    for path in checkpoints_in(folder)[:-keep]:
        if path != best and checkpoint_step(path) > 0:
            remove_checkpoint(path)
    for leftover in folder.glob(f".{STEP_PREFIX}*"):  # of a save that was killed: .partial or .old
        shutil.rmtree(leftover, ignore_errors=True)


def hide_checkpoints_after(folder: Path, step: int) -> None:
    """Renames checkpoints of later steps: a run that resumes after `step` makes them again."""
    for path in checkpoints_in(folder):
        if checkpoint_step(path) > step:
            hidden = folder / f".damaged-{path.name}"
            shutil.rmtree(hidden, ignore_errors=True)
            os.replace(path, hidden)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest score, the newest of several; None if none has a score."""
    scores = {path: read_info(path).get(SCORE) for path in checkpoints_in(folder)}
    scored = {path: score for path, score in scores.items() if score is not None}
    return max(scored, key=lambda path: (scored[path], path.name), default=None)


def best_saved_score(folder: Path) -> float:
    """The highest score of a folder's checkpoints, that of `Evaluation.score`; -inf if none has one."""
    best = best_checkpoint(folder)
    return -math.inf if best is None else read_info(best)[SCORE]


def broadcast_newest_checkpoint(folder: Path, ranks: Ranks, before: int | None = None) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run folder, read by the main rank and sent to all ranks.

    Args:
        folder: the run folder.
        ranks: all of them must call this.
        before: if given, only checkpoints of lower steps count.

    Returns:
        None if there is none. Damaged ones are named on stderr.
    """

    return ranks.on_main(lambda: newest_checkpoint(folder, before))


def newest_checkpoint(folder: Path, before: int | None = None) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run folder (below step `before`, if given); None if there is none.

    Damaged ones are named on stderr.
    """
    newest, damages = load_newest_checkpoint(folder / CHECKPOINTS_FOLDER, before)
    for damage in damages:
        print(f"lockstep: skipping a damaged checkpoint: {damage}", file=sys.stderr, flush=True)
    return newest
