"""The checkpoints of one run: the newest, the best, and which ones are kept or deleted."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from lockstep.errors import refuse
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.checkpoints.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    UnreadableCheckpoint,
    load_checkpoint,
    read_info,
    remove_checkpoint,
    scratch_folders_in,
)
from lockstep.runs.folder.files import CHECKPOINTS_FOLDER, checkpoint_step, checkpoints_in
from lockstep.runs.folder.set_aside import set_aside

SCORE = "selection_score"
"""In a checkpoint's `info`: `Evaluation.score` on the validation set after that step. Those of older versions
have a score on the test set, which chooses no checkpoint."""


def load_newest_checkpoint(folder: Path, before: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint (below step `before`, if given), and what is wrong with newer ones.

    Raises:
        UnreadableCheckpoint: a newer one cannot be read, which does not mean that it is damaged.
    """
    damages: list[str] = []
    for path in reversed(checkpoints_in(folder)):
        if before is not None and checkpoint_step(path) >= before:
            continue
        try:
            return load_checkpoint(path), damages
        except DamagedCheckpoint as damage:
            damages.append(str(damage))
    return None, damages


def prune_checkpoints(folder: Path, keep: int, origin: int = 0) -> None:
    """Deletes all checkpoints but the newest `keep` and the best one; to be called after a save.

    That of step 0, or of the step `origin` at which the run began, also stays: it holds weights that no
    function can make again. So do those that cannot be read: one of them may be the best.
    """
    infos = {path: _info(path) for path in checkpoints_in(folder)}  # each read once: what fails may recover
    best = _best(infos)
    for path in list(infos)[:-keep]:
        if path != best and checkpoint_step(path) > origin and infos[path] is not None:
            remove_checkpoint(path)
    for leftover in scratch_folders_in(folder):
        shutil.rmtree(leftover, ignore_errors=True)


def set_aside_checkpoints_after(run_folder: Path, step: int) -> None:
    """Sets aside damaged checkpoints of later steps: a run that resumes after `step` makes them again."""
    for path in checkpoints_in(run_folder / CHECKPOINTS_FOLDER):
        if checkpoint_step(path) > step:
            set_aside(path, run_folder)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest score on the validation set, the oldest of several.

    None if none was scored on one: the test set chooses no checkpoint.

    Raises:
        UnreadableCheckpoint: one cannot be read, and may be the best.
    """
    return _best({path: _info(path, passes_over_unreadable=False) for path in checkpoints_in(folder)})


def _best(infos: dict[Path, dict[str, Any] | None]) -> Path | None:
    """The best of checkpoints by their facts."""
    scores = {path: (info or {}).get(SCORE) for path, info in infos.items()}
    scored = {path: score for path, score in scores.items() if score is not None}
    return max(scored, key=lambda path: (scored[path], -checkpoint_step(path)), default=None)


def _info(path: Path, *, passes_over_unreadable: bool = True) -> dict[str, Any] | None:
    """A checkpoint's facts: none of a damaged one, and None of one that cannot be read."""
    try:
        return read_info(path)
    except DamagedCheckpoint:
        return {}
    except UnreadableCheckpoint:
        if passes_over_unreadable:
            return None
        raise


def checkpoint_to_resume(folder: Path, ranks: Ranks) -> Checkpoint | None:
    """The checkpoint that a start of the run in a folder continues from; None for a run without checkpoints.

    Args:
        folder: the run folder.
        ranks: all of them must call this.

    Raises:
        ConfigError: on every rank, if one cannot be read, or all are damaged: a start at step 0 would throw
            away what the run has.
    """

    def read() -> Checkpoint | None:
        newest, damages = load_newest_checkpoint(folder / CHECKPOINTS_FOLDER)
        if newest is None and damages:
            what = f"none of its checkpoints is whole ({damages[0]})"
            raise refuse("run.name", folder.name, f"{what}; to begin again at step 0, move them away")
        tell_damages(damages)
        return newest

    return ranks.on_main(read)


def broadcast_newest_checkpoint(folder: Path, ranks: Ranks, before: int | None = None) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run folder, read by the main rank and sent to all ranks.

    Args:
        folder: the run folder.
        ranks: all of them must call this.
        before: if given, only checkpoints of lower steps count.

    Returns:
        None if there is none. Damaged ones are named on stderr.

    Raises:
        ConfigError: on every rank, if one cannot be read.
    """

    return ranks.on_main(lambda: newest_checkpoint(folder, before))


def newest_checkpoint(folder: Path, before: int | None = None) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run folder (below step `before`, if given); None if there is none.

    Damaged ones are named on stderr.

    Raises:
        ConfigError: one cannot be read.
    """
    newest, damages = load_newest_checkpoint(folder / CHECKPOINTS_FOLDER, before)
    tell_damages(damages)
    return newest


def tell_damages(damages: list[str]) -> None:
    """Names damaged checkpoints on stderr."""
    for damage in damages:
        print(f"lockstep: skipping a damaged checkpoint: {damage}", file=sys.stderr, flush=True)
