"""`train(run)`: the loop itself."""

from __future__ import annotations

from typing import Any

import torch

from lockstep.engine.finite_check import FiniteCheck
from lockstep.engine.observer import NO_OBSERVER, Observer
from lockstep.engine.optimizer import clip_grad_norm, set_learning_rate
from lockstep.engine.records import StepResult, score_test_set, send_record, training_record
from lockstep.engine.run import Run
from lockstep.engine.weights_digest import agreed_digest
from lockstep.errors import Interrupted, RunStopped
from lockstep.models import draw_masks, share_of_mean
from lockstep.runs import Record
from lockstep.runs.checkpoint import Checkpoint, save_checkpoint
from lockstep.runs.checkpoint_folder import best_saved_accuracy, prune_checkpoints

MIN_LOSS_SCALE = 2.0**-10  # the scaler halves it at each overflow; a healthy run never gets this low


def train(run: Run, observer: Observer = NO_OBSERVER) -> None:
    """Trains until `run.step` is `run.num_steps`. All ranks must call it.

    Raises:
        RunStopped: on every rank, when a loss or gradient is not finite or the ranks' weights differ.
        Interrupted: on every rank after the same step, when one of them was asked to stop.
    """
    intervals = run.intervals
    finite_check = FiniteCheck(allows_overflow=run.ranks.accelerator.scaler is not None)
    run.model.train()
    run.clock.start()
    run.timer.read()
    while run.step < run.num_steps:
        result = take_step(run, observer)
        finite_check.add(run.step, result.losses, result.grad_norm)

        # Every rank takes each branch below at the same step: they hold collectives.
        record: Record = {}
        if run.step % intervals.log_every == 0 or run.step == run.num_steps:
            stop_if_not_finite(run, finite_check)
            record |= training_record(run, result)
        if run.step % intervals.digest_every == 0 or run.step == run.num_steps:
            record["weights_digest"] = agreed_digest(run.model, run.ranks, run.step)
        is_stopped = run.ranks.agree(run.stop.is_set()) and run.step < run.num_steps
        is_eval_due = is_due(run, intervals.eval_every)
        is_checkpoint_due = is_due(run, intervals.checkpoint_every) or is_stopped
        if record or is_eval_due or is_checkpoint_due:
            with run.clock.paused():
                if is_eval_due:
                    record |= score_test_set(run)
                if record:
                    send_record(run, record)
                if is_checkpoint_due or is_best(run):
                    stop_if_not_finite(run, finite_check)
                    save_checkpoint_of(run)
        if is_stopped:
            raise Interrupted(run.step)
        del result  # its images and logits must not stay in memory through the next step


def take_step(run: Run, observer: Observer = NO_OBSERVER) -> StepResult:
    """One optimizer step over the next global batch. All ranks must call it.

    Nothing waits for the device, except in fp16, whose scaler looks whether the gradient overflowed.
    """
    optimizer, reduction, accelerator = run.optimizer, run.reduction, run.ranks.accelerator
    losses, outputs = [], []
    observer.on_step_begin(run)
    with run.timer.section("data"):
        window = next(run.windows)

    # A micro-batch's loss is its share of the mean over the global batch, so the gradients only have to be
    # added. The scale undoes what else is done to the sum (DistributedDataParallel divides it by the ranks),
    # and in fp16 lifts small gradients into its range.
    scale = reduction.loss_scale
    if accelerator.scaler is not None:
        scale = accelerator.scaler.scale(scale)

    optimizer.zero_grad(set_to_none=True)
    observer.on_zero_grad(run)
    for batch in window:
        observer.on_micro_batch(run, batch)
        draw_masks(run.dropouts, run.seed, batch.step, batch.ids)
        with reduction.accumulate(batch):
            logits = reduction.model(batch.images)
            observer.on_forward(run, batch, logits)
            sample_losses = run.criterion(logits, batch.labels)
            observer.on_loss(run, batch, sample_losses)
            loss = share_of_mean(sample_losses, batch)
            loss.backward(gradient=scale)  # that is (loss * scale).backward()
        observer.on_backward(run, batch)
        losses.append(loss.detach())
        outputs.append(logits.detach())

    with run.timer.section("communication"):
        reduction.sum_over_ranks()
    observer.on_sum(run)

    # Unscaled first: the limit is meant for the gradient, not for the gradient times the loss scale. Clipped
    # after the sum over ranks: the limit is for the global batch, and every rank then has the same norm.
    # The norm stays on the device; it is read when a record is due.
    accelerator.unscale_gradients()
    observer.on_unscale(run)
    grad_norm = clip_grad_norm(run.trained, run.max_grad_norm)
    observer.on_clip(run, grad_norm)

    # The rate is a pure function of the updates made and is written just before it is used, so no scheduler
    # has a state that a resume could get wrong.
    set_learning_rate(optimizer, run.lr_factor(run.num_updates))
    observer.on_schedule(run)

    # In fp16 the scaler waits for the device here, and skips the update where the gradient overflowed.
    optimizer.step()
    observer.on_update(run)

    run.step += 1
    run.skipped_steps += optimizer.step_was_skipped
    result = StepResult(
        window=window, losses=torch.stack(losses).float(), logits=outputs, grad_norm=grad_norm
    )
    observer.on_step_end(run, result)
    return result


def stop_if_not_finite(run: Run, finite_check: FiniteCheck) -> None:
    """Ends the run on all ranks at a loss or gradient that is not finite; before a save, so none keeps it."""
    scaler = run.ranks.accelerator.scaler
    if scaler is not None and scaler.get_scale() < MIN_LOSS_SCALE:
        raise RunStopped(
            f"step {run.step}: the fp16 loss scale fell to {scaler.get_scale():g}: every gradient overflows; "
            "lower optimizer.lr, or use --precision bf16"
        )
    found = finite_check.check(run.ranks)
    if found is None:
        return
    step, slots = found
    ids = [sample for sample in run.plan.step_ids(step - 1)[slots].ravel().tolist() if sample >= 0]
    what = f"the loss is not finite among samples {ids}" if ids else "the gradient is not finite"
    command = f"lockstep replay {run.folder} --step {step}"
    raise RunStopped(f"step {step}: {what}; to see where it comes from: {command}")


def is_due(run: Run, every: int) -> bool:
    """Whether an interval of steps (0: an epoch) ends here, or the run does."""
    return run.step % (every or run.plan.steps_per_epoch) == 0 or run.step == run.num_steps


def is_best(run: Run) -> bool:
    """Whether the weights were scored at this step and no checkpoint scored higher; agreed by all ranks."""
    if run.evaluation is None or run.evaluation.step != run.step:
        return False
    accuracy = run.evaluation.accuracy
    return run.ranks.on_main(lambda: accuracy > best_saved_accuracy(run.folder / "checkpoints"))


def save_checkpoint_of(run: Run) -> None:
    """Publishes a checkpoint of this step, then lets older ones go. All ranks must call it.

    Raises:
        RunStopped: the ranks' weights differ.
    """
    agreed_digest(run.model, run.ranks, run.step)
    folder = run.folder / "checkpoints"

    def publish() -> None:
        save_checkpoint(folder, snapshot(run))
        prune_checkpoints(folder, run.intervals.keep_checkpoints)

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
