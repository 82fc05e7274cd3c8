"""`train(run)`: the loop itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lockstep.engine.finite_check import FiniteCheck
from lockstep.engine.optimizer import set_learning_rate
from lockstep.engine.records import StepResult, send_record, test_record, training_record
from lockstep.engine.run import Run
from lockstep.engine.schedule import lr_factor
from lockstep.engine.weights_digest import agreed_digest
from lockstep.errors import Interrupted, RunStopped
from lockstep.models import share_of_mean
from lockstep.runs import CHECKPOINTS_FOLDER, Record
from lockstep.runs.checkpoint import Checkpoint, save_checkpoint
from lockstep.runs.checkpoint_folder import best_saved_accuracy, prune_checkpoints

MIN_LOSS_SCALE = 2.0**-10  # the scaler halves it at each overflow; a healthy run never gets this low
StepFunction = Callable[[Run], StepResult]
"""What does an optimizer step: `take_step`, or something that watches it."""


def train(run: Run, do_step: StepFunction | None = None) -> None:
    """Trains until `run.step` is `run.num_steps`. All ranks must call it.

    Raises:
        RunStopped: on every rank, when a loss or gradient is not finite or the ranks' weights differ.
        Interrupted: on every rank after the same step, when one of them was asked to stop.
    """
    do_step = do_step or take_step
    intervals = run.config.train
    watch = FiniteCheck(allows_overflow=run.ranks.accelerator.scaler is not None)
    run.model.train()
    run.clock.start()
    run.timer.read()
    while run.step < run.num_steps:
        result = do_step(run)
        watch.add(run.step, result.losses, result.grad_norm)

        # Every rank takes each branch below at the same step: they hold collectives.
        record: Record = {}
        if run.step % intervals.log_every == 0 or run.step == run.num_steps:
            stop_if_not_finite(run, watch)
            record |= training_record(run, result)
        if run.step % intervals.digest_every == 0 or run.step == run.num_steps:
            record["weights_digest"] = agreed_digest(run.model, run.ranks, run.step)
        is_stopped = run.ranks.agree(run.stop.is_set()) and run.step < run.num_steps
        is_eval_due = is_due(run, intervals.eval_every)
        is_checkpoint_due = is_due(run, intervals.checkpoint_every) or is_stopped
        if record or is_eval_due or is_checkpoint_due:
            with run.clock.paused():
                if is_eval_due:
                    record |= test_record(run)
                if record:
                    send_record(run, record)
                if is_checkpoint_due or is_best(run):
                    stop_if_not_finite(run, watch)
                    save_checkpoint_of(run)
        if is_stopped:
            raise Interrupted(run.step)
        del result  # its images and logits are not to stay through the next step


def take_step(run: Run) -> StepResult:
    """One optimizer step over the next global batch. All ranks must call it.

    None waits for its device, except in fp16, whose scaler looks whether the gradient overflowed.
    """
    optimizer, reduction, accelerator = run.optimizer, run.reduction, run.ranks.accelerator
    with run.timer.section("data"):
        window = next(run.windows)
    losses, outputs = [], []
    scale = reduction.loss_scale
    if accelerator.scaler is not None:
        scale = accelerator.scaler.scale(scale)
    optimizer.zero_grad(set_to_none=True)
    for batch in window:
        for layer, dropout in enumerate(run.dropouts):
            dropout.draw_for(run.config.seed, layer, batch.step, batch.ids)
        with reduction.accumulate(batch):
            logits = reduction.model(batch.images)
            loss = share_of_mean(run.criterion(logits, batch.labels), batch)
            loss.backward(gradient=scale)  # that is (loss * scale).backward()
        losses.append(loss.detach())
        outputs.append(logits.detach())
    with run.timer.section("communication"):
        reduction.sum_over_ranks()
    accelerator.unscale_gradients()
    grad_norm = run.clip_grad_norm(run.trained, run.config.optimizer.max_grad_norm)
    set_learning_rate(optimizer, schedule(run))
    optimizer.step()
    run.step += 1
    run.skipped_steps += optimizer.step_was_skipped
    return StepResult(window=window, losses=torch.stack(losses).float(), logits=outputs, grad_norm=grad_norm)


def stop_if_not_finite(run: Run, watch: FiniteCheck) -> None:
    """Ends the run on all ranks at a loss or gradient that is not finite; before a save, so none keeps it."""
    scaler = run.ranks.accelerator.scaler
    if scaler is not None and scaler.get_scale() < MIN_LOSS_SCALE:
        raise RunStopped(
            f"step {run.step}: the fp16 loss scale fell to {scaler.get_scale():g}: every gradient overflows; "
            "lower optimizer.lr, or use --precision bf16"
        )
    found = watch.check(run.ranks)
    if found is None:
        return
    step, slots = found
    ids = [sample for sample in run.plan.step_ids(step - 1)[slots].ravel().tolist() if sample >= 0]
    what = f"the loss is not finite among samples {ids}" if ids else "the gradient is not finite"
    command = f"lockstep replay {run.folder} --step {step}"
    raise RunStopped(f"step {step}: {what}; to see where it comes from: {command}")


def schedule(run: Run) -> float:
    """The factor of the step to come: a function of the updates made, which a skipped step is not."""
    return lr_factor(run.step - run.skipped_steps, run.num_steps, run.config.schedule)


def is_due(run: Run, every: int) -> bool:
    """Whether an interval of steps (0: an epoch) ends here, or the run does."""
    return run.step % (every or run.plan.steps_per_epoch) == 0 or run.step == run.num_steps


def is_best(run: Run) -> bool:
    """Whether the weights were scored at this step and no checkpoint scored higher; agreed by all ranks."""
    if run.evaluation is None or run.evaluation.step != run.step:
        return False
    accuracy = run.evaluation.accuracy
    return run.ranks.on_main(lambda: accuracy > best_saved_accuracy(run.folder / CHECKPOINTS_FOLDER))


def save_checkpoint_of(run: Run) -> None:
    """Publishes a checkpoint of this step, then lets older ones go. All ranks must call it.

    Raises:
        RunStopped: the ranks' weights differ.
    """
    agreed_digest(run.model, run.ranks, run.step)
    folder = run.folder / CHECKPOINTS_FOLDER

    def publish() -> None:
        save_checkpoint(folder, snapshot(run))
        prune_checkpoints(folder, run.config.train.keep_checkpoints)

    run.ranks.on_main(publish)


def snapshot(run: Run) -> Checkpoint:
    """All state that is needed to go on from here: model, optimizer, scaler, step. The rest is derived."""
    scaler = run.ranks.accelerator.scaler
    state: dict[str, Any] = {"optimizer": run.optimizer.state_dict(), "skipped_steps": run.skipped_steps}
    if scaler is not None:
        state["scaler"] = scaler.state_dict()
    info: dict[str, Any] = {"train_seconds": run.clock.total(), "world_size": run.ranks.world_size}
    if run.evaluation is not None and run.evaluation.step == run.step:
        info["test_accuracy"] = run.evaluation.accuracy
    return Checkpoint(step=run.step, weights=run.model.state_dict(), state=state, info=info)
