"""What goes into a run's checkpoint, and whether it is the best; runs/checkpoints/ writes the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lockstep.engine.checks.weights_digest import agreed_digest, agreed_digest_of
from lockstep.engine.optimizer.ownership import gather_parts
from lockstep.engine.run import Run
from lockstep.launch import unlimited
from lockstep.runs import CHECKPOINTS_FOLDER, read_starts
from lockstep.runs.checkpoints.checkpoint import Checkpoint, save_checkpoint
from lockstep.runs.checkpoints.checkpoint_folder import SCORE, prune_checkpoints


def is_best(run: Run) -> bool:
    """Whether this step was scored on the validation set, and better than every step before it."""
    is_scored = run.evaluation is not None and run.evaluation.step == run.step
    return is_scored and run.selection is not None and run.selection.num_since_best == 0


def save_checkpoint_of(run: Run) -> None:
    """Saves a checkpoint of this step, then deletes old ones. All ranks must call it.

    Raises:
        RunStopped: the ranks' weights differ.
    """
    agreed_digest(run.model, run.ranks, run.step)
    if run.average is not None:
        agreed_digest_of(run.average.named(), run.ranks, run.step, "moving averages")
    folder = run.folder / CHECKPOINTS_FOLDER
    others = {} if run.owners is None else gather_parts(run.optimizer.optimizer, run.owners, run.ranks)

    def save() -> None:
        save_checkpoint(folder, snapshot(run, others))
        starts = read_starts(run.folder)
        prune_checkpoints(folder, run.intervals.keep_checkpoints, starts[0]["step"] if starts else 0)

    with unlimited():  # a disk may be slow
        run.ranks.on_main(save)


def snapshot(run: Run, others: Mapping[int, Any] | None = None) -> Checkpoint:
    """All state that resuming needs: model, optimizer, scaler, step. The config gives everything else.

    Args:
        run: between two steps.
        others: the entries of other ranks in the optimizer's state dict, if it is sharded and has stepped.
    """
    scaler = run.ranks.accelerator.scaler
    skipped_steps = run.skipped_steps  # which sets the rates of the step too
    optimizer = run.optimizer.state_dict()
    if others:
        optimizer["state"] = dict(sorted({**optimizer["state"], **others}.items()))
    state: dict[str, Any] = {"optimizer": optimizer, "skipped_steps": skipped_steps}
    state["traits"] = asdict(run.traits)
    ema = None if run.average is None else run.average.state_dict()
    if run.selection is not None:
        state["selection"] = asdict(run.selection)
    if scaler is not None:
        state["scaler"] = scaler.state_dict()
    info: dict[str, Any] = {"train_seconds": run.clock.total(), "world_size": run.ranks.world_size}
    if run.evaluation is not None and run.evaluation.step == run.step:
        evaluations = [each for each in (run.evaluation, run.ema_evaluation) if each is not None]
        for each in evaluations:
            info |= each.record()
        if run.selection is not None:
            info[SCORE] = evaluations[-1].score
    return Checkpoint(step=run.step, weights=run.model.state_dict(), state=state, info=info, ema=ema)
