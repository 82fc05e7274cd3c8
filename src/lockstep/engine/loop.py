"""The training loop: `train` repeats `take_step`, and logs, evaluates, saves and stops between steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lockstep.data import seed_generators
from lockstep.engine.checkpoint_content import is_best, save_checkpoint_of
from lockstep.engine.checks.finite_check import FiniteCheck, stop_if_not_finite
from lockstep.engine.checks.repeatability import stop_if_not_repeatable
from lockstep.engine.checks.weights_digest import agreed_digest
from lockstep.engine.deterministic_kernels import refused_nondeterminism
from lockstep.engine.evaluation.step_scores import StepScores
from lockstep.engine.optimizer.optimizer import clip_gradients, set_learning_rate
from lockstep.engine.records import StepResult, evaluate_run, padded, send_record, training_record
from lockstep.engine.run import Run
from lockstep.engine.step.micro_step import add_gradient, kept_casts
from lockstep.engine.step.observer import NO_OBSERVER, Observer
from lockstep.engine.step.step_profile import StepProfile
from lockstep.engine.step.stop_agreement import StopAgreement
from lockstep.errors import ConfigError, Interrupted, RankError
from lockstep.launch import advance
from lockstep.runs import Record


def train(run: Run, observer: Observer = NO_OBSERVER) -> None:
    """Trains until `run.step` reaches `run.num_steps`, or evaluations improve no more.

    All ranks must call it.

    Raises:
        RunStopped: on every rank, if a loss or gradient is not finite or weights differ between ranks.
        Interrupted: on every rank after the same step, if any of them was asked to stop: after the step in
            progress, with several ranks the one after it, and with many a few milliseconds later.
    """
    intervals = run.intervals
    finite_check = FiniteCheck(allows_overflow=run.ranks.accelerator.scaler is not None)
    run.model.train()
    profile = StepProfile(run)
    agreement = StopAgreement(run)
    run.clock.start()
    run.timer.read()
    while not run.is_over:
        is_logged = is_log_due(run, run.step + 1)
        agreement.before_step()
        profile.before_step(run.step + 1)
        result = take_step(run, observer, is_logged=is_logged)
        profile.after_step(run.step)
        finite_check.add(run.step, result.losses, result.grad_norm)

        # Every rank takes each branch below at the same step: the branches contain collectives.
        is_eval_due = run.scored is not None and is_due(run, intervals.eval_every)
        is_checkpoint_due = is_due(run, intervals.checkpoint_every)
        is_digest_due = run.step % intervals.digest_every == 0 or run.step == run.num_steps
        may_end = is_logged or is_eval_due or is_checkpoint_due or is_digest_due
        is_stopped = agreement.after_step(may_end=may_end)
        is_checkpoint_due |= is_stopped
        # First of all: a step that is not finite is neither recorded, nor scored, nor saved.
        if is_logged or is_eval_due or is_checkpoint_due:
            stop_if_not_finite(run, finite_check)
        record: Record = {}
        if is_logged:
            stop_if_not_repeatable(run)
            record |= training_record(run, result)
        if is_digest_due:
            record["weights_digest"] = agreed_digest(run.model, run.ranks, run.step)
        if record or is_eval_due or is_checkpoint_due:
            with run.clock.paused():
                if is_eval_due:
                    record |= evaluate_run(run)
                if record:
                    send_record(run, record)
                if is_checkpoint_due or is_best(run) or run.is_over:
                    save_checkpoint_of(run)
        if is_stopped and not run.is_over:
            raise Interrupted(run.step)
        del result  # its inputs would stay in memory during the next step


def take_step(run: Run, observer: Observer = NO_OBSERVER, *, is_logged: bool = False) -> StepResult:
    """Takes one optimizer step over the next global batch. All ranks must call it.

    Gradients accumulate over the rank's window of micro-batches. Nothing waits for the device, with two
    exceptions: the count of a loss that counts, and in fp16 the scaler's check for an overflowed gradient if
    an observer watches, the optimizer is not fused, or none has been updated in this start.

    Args:
        run: the run.
        observer: called at each event.
        is_logged: whether to measure what the record of this step needs: parts of the loss, and metrics.
    """
    optimizer, reduction, accelerator = run.optimizer.optimizer, run.reduction, run.ranks.accelerator
    scores = StepScores(run.task, run.traits.loss) if is_logged else None
    captured = run.captured if observer is NO_OBSERVER else None
    losses = []
    observer.on_step_begin(run)
    with run.timer.section("data"):
        window = next(run.windows)

    # Each micro-batch's loss is its share of the global batch's mean loss, so the gradients just add up. In
    # fp16 the scale brings small gradients into range.
    scaler = accelerator.scaler
    scale = scaler.scale(torch.ones((), device=run.ranks.device)) if scaler is not None else None

    optimizer.zero_grad(set_to_none=True)
    observer.on_zero_grad(run)
    reduction.begin_step(is_watched=observer is not NO_OBSERVER or run.is_watched(run.step + 1))
    with kept_casts(accelerator), own_mistakes():
        for batch in window:
            observer.on_micro_batch(run, batch)
            # So the forward and the loss draw the same for this slot on any rank, and after any resume.
            seed_generators(run.ranks.device, run.seed, "step", batch.step, batch.slot)
            with reduction.accumulate(batch):
                loss = captured.add_gradient(batch, scale, scores) if captured is not None else None
                if loss is None:
                    loss = add_gradient(run, batch, scale, scores, observer)
            observer.on_backward(run, batch)
            losses.append(loss)
            advance()

    with run.timer.section("communication"):
        reduction.sum_over_ranks(run.plan.num_micro_batches(run.step), run.plan.window)
    observer.on_sum(run)

    # Unscale before clipping: the limit is for the gradient, not for the gradient times the loss scale. Clip
    # after the sum: the limit is for the global batch, and every rank then computes the same norm. The norm
    # stays on the device until a record is due.
    grad_norm = captured.update(run) if captured is not None else None
    is_skipped: bool | None = False
    if grad_norm is None:
        accelerator.unscale_gradients()
        observer.on_unscale(run)
        grad_norm = reduction.total_norm()
        clip_gradients(run.trained, run.max_grad_norm, grad_norm)
        observer.on_clip(run, grad_norm)

        is_skipped = update(run, observer)
    reduction.end_step()
    observer.on_update(run)

    run.step += 1
    if is_skipped is not None:
        run.skips.add(optimizer, is_skipped=is_skipped)
        if run.average is not None and not is_skipped:
            run.average.update(run.num_updates)
    result = StepResult(
        window=window,
        losses=padded(losses, run.plan.window, run.ranks.device),
        total_count=reduction.total_count,
        scores=scores,
        grad_norm=grad_norm,
    )
    observer.on_step_end(run, result)
    return result


def update(run: Run, observer: Observer) -> bool | None:
    """Updates the weights by the gradient in `.grad`; in fp16 only if it has not overflowed.

    Returns:
        Whether the step was skipped; None: only the device knows, and the moving average is updated too.
    """
    optimizer, scaler = run.optimizer.optimizer, run.ranks.accelerator.scaler
    is_plain = observer is NO_OBSERVER and not run.traits.loss.has_own_count
    if scaler is not None and is_plain and run.skips.can_update(optimizer):
        run.reduction.begin_update()
        with own_mistakes():
            run.skips.update(optimizer, scaler, run.average, run.step, run.num_steps, run.lr_factor)
        return None

    # The learning rate is a pure function of the number of updates and is written just before it is used,
    # so there is no scheduler state that a resume could get wrong.
    set_learning_rate(optimizer, run.lr_factor(run.num_updates))
    observer.on_schedule(run)
    is_empty = run.reduction.begin_update()
    with own_mistakes():
        if scaler is None:
            optimizer.step()
        else:
            run.optimizer.step()  # waits for the device
    return run.optimizer.step_was_skipped or is_empty


@contextmanager
def own_mistakes() -> Iterator[None]:
    """Lets a rank report by itself what it finds wrong within a step: the others may not have it."""
    try:
        with refused_nondeterminism():
            yield
    except ConfigError as error:
        raise RankError(str(error)) from error


def is_log_due(run: Run, step: int) -> bool:
    """Whether a record is due after a step."""
    return step % run.intervals.log_every == 0 or step == run.num_steps


def is_due(run: Run, every: int) -> bool:
    """Whether an interval of `every` steps (0: one epoch) or the run ends at this step."""
    return run.step % (every or run.plan.steps_per_epoch) == 0 or run.step == run.num_steps
