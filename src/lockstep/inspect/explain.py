"""`lockstep explain`: what one step really did, from the loss to the updated parameters."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from lockstep.config import Config
from lockstep.engine import (
    EventKind,
    Formula,
    Observers,
    OrderTrace,
    Run,
    StepResult,
    first_violation,
    format_events,
    off_formula,
    optimizer_kind,
    step_record,
    take_step,
)
from lockstep.errors import refuse
from lockstep.inspect.explanation_table import Explanation, Row
from lockstep.inspect.recurrence import SATURATED, Recurrence, measure_recurrences
from lockstep.inspect.step_snapshot import StepSnapshot, cpu_copy
from lockstep.launch import Launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks.ranks import Ranks
from lockstep.plan import window_for_reduction
from lockstep.report import shown
from lockstep.runs import run_path
from lockstep.runs.history.environment import device_name
from lockstep.task import LOSS
from lockstep.trainer import (
    batch_sizes,
    build_run,
    find_task,
    first_on_each_node,
    fit_micro_size,
    make_parts,
    take_initial_weights,
)


def run_explain(config: Config, launch: Launch, step: int) -> Explanation:
    """Trains a run from its first step to a given one, saves nothing, and explains that step on every rank.

    Raises:
        ConfigError: on every rank, before any training.
    """
    config = resolve_precision(config, launch)
    window_for_reduction(config.batch, config.reduction, launch.world_size)
    with join_ranks(launch, config.precision, config.run.timeout_seconds) as ranks:
        return _explain_on(ranks, config, step)


def _explain_on(ranks: Ranks, config: Config, step: int) -> Explanation:
    """Keeps the run to this function: its process groups have threads, which must end before the process."""
    # The formula is checked with each parameter's state, and the bits do not depend on who has it.
    config = replace(config, optimizer=replace(config.optimizer, sharded=False))
    config, task = first_on_each_node(ranks, "the task", lambda: find_task(config, None))
    parts = make_parts(config, task, ranks)
    take_initial_weights(config.model, parts.model, ranks)
    config = fit_micro_size(config, ranks, parts, run_path(config))
    run = build_run(config, ranks, parts)
    with run.closing:
        return explain_step(run, config, step)


def explain_step(run: Run, config: Config, step: int) -> Explanation:
    """Trains a run up to a step, counted from 1, and explains that step. All ranks must call it.

    Raises:
        ConfigError: the run has no such step or is already past it.
    """
    if not run.step < step <= run.num_steps:
        raise refuse(
            "--step", step, f"must be from {run.step + 1} to {run.num_steps}, the last step of this config"
        )
    trace, snapshot = OrderTrace(), StepSnapshot()
    run.model.train()
    while run.step < step - 1:
        take_step(run)

    window = next(run.windows)
    run.windows = itertools.chain([window], run.windows)
    recurrences = measure_recurrences(run, window)
    result = take_step(run, Observers(trace, snapshot), is_logged=True)
    was_skipped = EventKind.SKIPPED_STEP in [event.kind for event in trace.events]

    is_scaled = run.ranks.accelerator.scaler is not None
    violation = first_violation(trace.events, len(window), is_scaled=is_scaled)
    kind = optimizer_kind(config.optimizer)
    local_trace = (format_events(trace.events), str(violation or ""))
    return Explanation(
        title=_title(run, config),
        traces=run.ranks.gather_objects(local_trace),
        formula=kind.text,
        rows=_rows(run, snapshot, formula=None if was_skipped else kind.formula),
        facts=[
            *_facts(run, result),
            *(line for recurrence in recurrences for line in _recurrence_facts(recurrence)),
        ],
    )


def _rows(run: Run, snapshot: StepSnapshot, formula: Formula | None) -> list[Row]:
    groups = {parameter: group for group in run.optimizer.param_groups for parameter in group["params"]}
    rows = []
    for name, parameter in run.model.named_parameters():
        before, after, group = snapshot.theta[name], cpu_copy(parameter), groups.get(parameter)
        gradient, clipped = snapshot.gradients.get(name), snapshot.clipped.get(name)
        off = None
        if group is not None and clipped is not None and formula is not None:
            off = off_formula(after, formula(before, clipped, snapshot.state.get(parameter, {}), group))
        is_updated = not torch.equal(before, after)
        rows.append(
            Row(
                name=name,
                shape=tuple(parameter.shape),
                group=str(group["name"]) if group else "",
                norm=_norm(before),
                gradient_norm=None if gradient is None else _norm(gradient),
                clipped_norm=None if clipped is None else _norm(clipped),
                update_norm=_norm(after.double() - before.double()),
                off_formula=off,
                status="updated" if is_updated else "unchanged" if group else "frozen",
            )
        )
    return rows


def _title(run: Run, config: Config) -> str:
    ranks = run.ranks
    return (
        f"step {run.step} of {run.num_steps} | {ranks.world_size} x {device_name(ranks)} | "
        f"precision {config.precision} | {batch_sizes(run.plan)} | {config.reduction} reduction"
    )


def _facts(run: Run, result: StepResult) -> list[str]:
    """Facts about the whole step."""
    grad_norm, record = result.grad_norm.item(), step_record(run, result)
    names = [LOSS, *(name for name in run.task.metrics if name != LOSS)]
    values = ", ".join(f"{name} {shown(name, record[name], 1)}" for name in names)
    rates = ", ".join(f"{group['lr']:.4g} ({group['name']})" for group in run.optimizer.param_groups)
    guess, num_classes = "", len(run.task.classes)
    if num_classes:
        guess = f"; ln {num_classes} = {math.log(num_classes):.4f} is the cross-entropy of a random guess"
    return [
        values + guess,
        f"gradient norm {grad_norm:.4g}, {_clipping(grad_norm, run.max_grad_norm)}; learning rate {rates}",
    ]


def _clipping(norm: float, limit: float) -> str:
    if math.isinf(limit):
        return "no limit"
    return f"limit {limit:g}: " + (f"scaled by {limit / norm:.3g}" if norm > limit else "not clipped")


def _recurrence_facts(recurrence: Recurrence) -> list[str]:
    norms, saturated = recurrence.gradient_norms, recurrence.saturated
    last = len(norms) - 1
    shown = sorted({0, last // 4, last // 2, last * 3 // 4, last})
    norm_by_row = ", ".join(f"row {row + 1}: {norms[row]:.3g}" for row in shown)
    saturated_by_row = ", ".join(f"row {row + 1}: {saturated[row]:.1%}" for row in shown)
    return [
        f"{recurrence.name}: ‖∂J/∂h‖ {norm_by_row}",
        f"{recurrence.name}: hidden units with |h| > {SATURATED} {saturated_by_row}",
        f"{recurrence.name}: largest singular value of weight_hh {recurrence.spectral_norm:.3g}",
    ]


def _norm(values: Tensor) -> float:
    return torch.linalg.vector_norm(values.double()).item()
