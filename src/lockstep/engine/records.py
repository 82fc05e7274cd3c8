"""Turns the result of a step into a record, its numbers taken over all ranks, and sends it to the sinks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.engine.evaluation.score_samples import evaluate
from lockstep.engine.evaluation.selection import ScoredSet
from lockstep.engine.evaluation.step_scores import StepScores
from lockstep.engine.measuring.peak_memory import named_peaks, peak_bytes
from lockstep.engine.run import Run
from lockstep.launch import limited
from lockstep.runs import Record
from lockstep.task import Evaluation


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What an optimizer step returns for logging. It is on the device, and nothing has waited for it."""

    window: list[MicroBatch]
    """The micro-batches of this rank."""
    losses: Tensor
    """Each slot's share of the global batch's loss, 0 for an empty one, float32 (window,). Their sum over all
    ranks is the mean loss, divided by `total_count` if there is one."""
    total_count: Tensor | None
    """What the loss counts in the global batch, shape (), if it counts at all."""
    scores: StepScores | None
    """The parts of the loss and the metrics, if the step is logged."""
    grad_norm: Tensor
    """Norm of the global gradient before clipping, float32 ()."""


def padded(values: list[Tensor], length: int, device: torch.device) -> Tensor:
    """Scalars as one float32 tensor (length,); zeros stand for the empty slots at the end of an epoch."""
    values = [value.float() for value in values]
    if len(values) < length:
        values += [torch.zeros((), device=device)] * (length - len(values))
    return torch.stack(values)


def training_record(run: Run, result: StepResult) -> Record:
    """The record of the step just taken, and where the time since the last record went.

    `_seconds` are per step, averaged over steps and ranks. Communication is the gradient sum including the
    wait for slower ranks. `peak_` is the most memory since the start, of the rank with the most.
    """
    record = step_record(run, result)
    first_step, seconds = run.clock.next_interval(run.step)
    samples = run.plan.samples_seen(run.step) - run.plan.samples_seen(first_step)
    sections = run.timer.read()
    own = [sections["data"], sections["communication"], seconds, *peak_bytes(run.ranks.device)]
    rows = run.ranks.gather(torch.tensor([own], dtype=torch.float64))
    run.step_seconds = rows[0, 2].item() / (run.step - first_step)
    data, communication, total = (rows[:, :3].mean(dim=0) / (run.step - first_step)).tolist()
    return record | {
        "samples_per_second": samples / seconds,
        "data_seconds": data,
        "compute_seconds": total - data - communication,
        "communication_seconds": communication,
        **named_peaks(rows[:, 3:]),
    }


def step_record(run: Run, result: StepResult) -> Record:
    """The numbers of the logged step just taken, over all ranks. Reading them waits for the device."""
    assert result.scores is not None, "only a logged step is measured"
    rows = result.scores.rows(len(result.losses), run.ranks.device)  # (window, names, 2)
    slots = torch.cat([result.losses[:, None], rows.flatten(1)], dim=1)
    skipped_steps = run.skipped_steps  # which sets the rates of the step too
    once = [result.grad_norm, *([] if result.total_count is None else [result.total_count])]
    local = torch.cat([slots.flatten(), *(value.to(slots.device).reshape(1) for value in once)])
    everyone = run.ranks.gather(local.unsqueeze(0))  # in one copy from the device
    grad_norm, *counts = everyone[0, slots.numel() :].tolist()
    per_slot = everyone[:, : slots.numel()].reshape(-1, slots.shape[1])  # (world * window, 1 + 2 * names)
    loss, *pairs = per_slot.double().sum(dim=0).tolist()
    count = counts[0] if counts else 1.0
    means = [_mean(total, of) for total, of in zip(pairs[::2], pairs[1::2], strict=True)]
    record: Record = {
        "loss": _mean(loss, count),
        **dict(zip(result.scores.names, means, strict=True)),
        # In fp16 the norm of a skipped step is not finite, and JSON has no such number.
        "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
        **{f"lr/{group['name']}": group["lr"] for group in run.optimizer.param_groups},
    }
    if run.ranks.accelerator.scaler is not None:
        record["loss_scale"] = run.ranks.accelerator.scaler.get_scale()
        record["skipped_steps"] = skipped_steps
    return record


def score(run: Run, scored: ScoredSet, *, is_average: bool = False) -> Evaluation:
    """Scores a set with the weights as they are. All ranks must call it.

    Args:
        run: the run.
        scored: the set.
        is_average: whether these are the moving average of its weights.

    Raises:
        RunStopped: a value is not finite.
    """
    return evaluate(
        run.model,
        run.task,
        scored.chunks,
        run.ranks,
        step=run.step,
        seed=run.seed,
        split=scored.split,
        is_average=is_average,
    )


def score_both(run: Run, scored: ScoredSet) -> list[Evaluation]:
    """Scores a set with the weights and, if there is one, their moving average. All ranks must call it.

    Raises:
        RunStopped: a value is not finite.
    """
    evaluations = [score(run, scored)]
    if run.average is not None:
        with run.average.applied():
            evaluations.append(score(run, scored, is_average=True))
    return evaluations


def evaluate_run(run: Run) -> Record:
    """Scores what is scored as the run trains, and keeps the result in the run. All ranks must call it.

    Raises:
        RunStopped: a value is not finite.
    """
    assert run.scored is not None, "there is nothing to score"
    evaluations = score_both(run, run.scored)
    run.evaluation, run.ema_evaluation = (*evaluations, None)[:2]
    if run.selection is not None:
        run.selection.add(run.ranks.broadcast(evaluations[-1].score))  # that of the average, if there is one
    return {name: value for each in evaluations for name, value in each.record().items()}


def _mean(total: float, count: float) -> float | None:
    """None if it is not finite, as when nothing was counted: JSON has no NaN."""
    mean = total / count if count else math.nan
    return mean if math.isfinite(mean) else None


def send_record(run: Run, record: Record) -> None:
    """Sends a record of the step just taken to the sinks. All ranks must call it."""
    progress: Record = {"step": run.step, "epoch": run.step / run.plan.steps_per_epoch}
    progress["samples_seen"] = run.plan.samples_seen(run.step)

    def send() -> None:
        for sink in run.sinks:
            with limited(f"handing a record to {type(sink).__name__}"):
                sink.log(progress | record)

    run.ranks.on_main(send)  # if the disk is full, every rank stops
