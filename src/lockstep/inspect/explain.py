"""`lockstep explain`: what loss propagation and parameter update really did in one step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.config import Config
from lockstep.engine import (
    OPTIMIZERS,
    Kind,
    ObservedStep,
    Run,
    StepResult,
    as_text,
    first_violation,
    off_formula,
    take_step,
)
from lockstep.errors import refuse
from lockstep.inspect.explanation import Explanation, Row
from lockstep.inspect.recurrence import SATURATED, Recurrence, measure_recurrences
from lockstep.launch import Launch
from lockstep.launch.process_group import join_ranks, resolve_precision
from lockstep.launch.ranks import Ranks
from lockstep.plan import window_length
from lockstep.runs.environment import device_name
from lockstep.trainer import build_run, shared_dataset


def run_explain(config: Config, launch: Launch, step: int) -> Explanation:
    """Trains a config from its start to a step, keeping nothing, and explains that step on every rank.

    Raises:
        ConfigError: on every rank, before any training.
    """
    config = resolve_precision(config, launch)
    window_length(config.batch, launch.world_size, exact=config.reduction == "exact")
    with join_ranks(launch, config.precision) as ranks:
        return _explain_on(ranks, config, step)


def _explain_on(ranks: Ranks, config: Config, step: int) -> Explanation:
    """The run ends with this function: it holds process groups, whose threads must end before the process."""
    dataset = shared_dataset(config, ranks)
    run = build_run(config, ranks, dataset)
    with run.closing:
        return explain_step(run, step)


def explain_step(run: Run, step: int) -> Explanation:
    """Trains a run up to a step, counted from 1, and explains that step. All ranks must call it.

    Raises:
        ConfigError: the run has no such step, or is past it.
    """
    if not run.step < step <= run.num_steps:
        raise refuse(
            "--step", step, f"must be from {run.step + 1} to {run.num_steps}, the last step of this config"
        )
    moments: dict[str, dict[str, Tensor]] = {}
    keep = partial(_keep_gradients, run.model, moments)
    before, clipped = partial(keep, "before clip"), partial(keep, "after clip")
    observed = ObservedStep(run, after={Kind.GRADIENT_SUM: before, Kind.UNSCALE: before, Kind.CLIP: clipped})
    run.model.train()
    while run.step < step - 1:
        take_step(run)

    window = next(run.windows)
    run.windows = itertools.chain([window], run.windows)
    recurrences = measure_recurrences(run, window)
    theta = {name: _kept(p) for name, p in run.model.named_parameters()}
    state = _optimizer_state(run)
    result = observed(run)
    was_skipped = Kind.SKIPPED_STEP in [event.kind for event in observed.events]

    is_scaled = run.ranks.accelerator.scaler is not None
    violation = first_violation(observed.events, run.plan.window, is_scaled=is_scaled)
    mine = (as_text(observed.events), str(violation or ""))
    return Explanation(
        title=_title(run),
        traces=run.ranks.gather_objects(mine),
        optimizer=run.config.optimizer.name,
        rows=_rows(run, theta, state, moments, has_formula=not was_skipped),
        facts=[
            *_facts(run, result),
            *(line for recurrence in recurrences for line in _recurrence_facts(recurrence)),
        ],
    )


def _keep_gradients(model: nn.Module, moments: dict[str, dict[str, Tensor]], moment: str) -> None:
    """Holds the model alone: DistributedDataParallel's hook holds this, and so a run would hold itself."""
    named = model.named_parameters()
    moments[moment] = {name: _kept(p.grad) for name, p in named if p.grad is not None}


def _optimizer_state(run: Run) -> dict[Tensor, dict[str, Any]]:
    """A copy of each parameter's state, without what is not there yet."""
    return {
        parameter: {key: _kept(value) for key, value in entry.items() if value is not None}
        for parameter, entry in run.optimizer.state.items()
    }


def _rows(
    run: Run,
    theta: Mapping[str, Tensor],
    state: Mapping[Tensor, Mapping[str, Any]],
    moments: Mapping[str, Mapping[str, Tensor]],
    *,
    has_formula: bool,
) -> list[Row]:
    groups = {parameter: group for group in run.optimizer.param_groups for parameter in group["params"]}
    formula = OPTIMIZERS[run.config.optimizer.name].formula
    rows = []
    for name, parameter in run.model.named_parameters():
        before, after, group = theta[name], _kept(parameter), groups.get(parameter)
        gradients = [moments.get(moment, {}).get(name) for moment in ("before clip", "after clip")]
        off = None
        if group is not None and gradients[1] is not None and has_formula:
            off = off_formula(after, formula(before, gradients[1], state.get(parameter, {}), group))
        is_updated = not torch.equal(before, after)
        rows.append(
            Row(
                name=name,
                shape=tuple(parameter.shape),
                group=str(group["name"]) if group else "",
                norm=_norm(before),
                gradient_norm=None if gradients[0] is None else _norm(gradients[0]),
                clipped_norm=None if gradients[1] is None else _norm(gradients[1]),
                update_norm=_norm(after.double() - before.double()),
                off_formula=off,
                status="updated" if is_updated else "unchanged" if group else "frozen",
            )
        )
    return rows


def _title(run: Run) -> str:
    plan, ranks = run.plan, run.ranks
    return (
        f"step {run.step} of {run.num_steps} | {ranks.world_size} x {device_name(ranks)} | "
        f"precision {run.config.precision} | global batch {plan.batch.global_size} = "
        f"{ranks.world_size} ranks x {plan.window} micro-batches x {plan.batch.micro_size} | "
        f"{run.config.reduction} reduction"
    )


def _facts(run: Run, result: StepResult) -> list[str]:
    """What was measured of the whole step."""
    grad_norm = result.grad_norm.item()
    loss, correct = run.ranks.gather(result.scores()).double().sum(dim=0).tolist()
    limit = run.config.optimizer.max_grad_norm
    rates = ", ".join(f"{group['lr']:.4g} ({group['name']})" for group in run.optimizer.param_groups)
    clipping = f"limit {limit:g}, so " + (
        f"scaled by {limit / grad_norm:.3g}" if grad_norm > limit else "as it is"
    )
    return [
        f"loss {loss:.4f}, accuracy {correct / run.plan.num_real(run.step - 1):.1%}; "
        f"ln 10 = {math.log(10):.4f} is the cross-entropy of a guess",
        f"gradient norm {grad_norm:.4g}, {clipping}; learning rate {rates}",
    ]


def _recurrence_facts(recurrence: Recurrence) -> list[str]:
    norms, saturated = recurrence.gradient_norms, recurrence.saturated
    last = len(norms) - 1
    shown = sorted({0, last // 4, last // 2, last * 3 // 4, last})
    flow = ", ".join(f"row {row + 1}: {norms[row]:.3g}" for row in shown)
    full = ", ".join(f"row {row + 1}: {saturated[row]:.1%}" for row in shown)
    return [
        f"{recurrence.name}: ‖∂J/∂h‖ {flow}",
        f"{recurrence.name}: hidden units with |h| > {SATURATED} {full}",
        f"{recurrence.name}: largest singular value of weight_hh {recurrence.spectral_norm:.3g}",
    ]


def _kept(values: Tensor) -> Tensor:
    """A copy on the CPU: the checks are in float64, which not every device has (MPS)."""
    return values.detach().to("cpu", copy=True)


def _norm(values: Tensor) -> float:
    return torch.linalg.vector_norm(values.double()).item()
