"""Detects a loss or gradient that is not finite; waits for the device only when it checks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lockstep.engine.run import Run
from lockstep.errors import RunStopped
from lockstep.launch.ranks.ranks import Ranks

SHOWN_SAMPLES = 10
MIN_LOSS_SCALE = 2.0**-10  # the scaler halves it on each overflow; a healthy run never gets this low


@dataclass(kw_only=True)
class FiniteCheck:
    """Keeps each step's losses and gradient norm on the device until the next check."""

    allows_overflow: bool
    """Whether gradients may overflow, as in fp16, where the scaler skips such a step."""
    _steps: list[int] = field(default_factory=list)
    _losses: list[Tensor] = field(default_factory=list)
    _norms: list[Tensor] = field(default_factory=list)

    def add(self, step: int, losses: Tensor, grad_norm: Tensor) -> None:
        """Adds a step: this rank's losses, (window,), and the norm of the global gradient, ()."""
        self._steps.append(step)
        self._losses.append(losses)
        self._norms.append(grad_norm)

    def check(self, ranks: Ranks) -> tuple[int, list[int]] | None:
        """Finds the first step since the last check with a loss or gradient that is not finite.

        All ranks must call it; all get the same answer.

        Returns:
            The step and the slots whose loss is not finite (none: only the gradient is not), or None.
        """
        if not self._steps:
            return None
        losses = torch.stack(self._losses)  # (steps, window)
        local = torch.cat([losses, torch.stack(self._norms).to(losses.device)[:, None]], dim=1)
        is_finite = ranks.gather(local.unsqueeze(0)).isfinite()  # (world, steps, window + 1), in one copy
        finite_losses, finite_norms = is_finite[:, :, :-1], is_finite[0, :, -1]
        steps = self._steps
        self._steps, self._losses, self._norms = [], [], []
        for index, step in enumerate(steps):
            slots = (~finite_losses[:, index].flatten()).nonzero().flatten().tolist()
            if slots or not (self.allows_overflow or finite_norms[index]):
                return step, slots
        return None


def stop_if_not_finite(run: Run, finite_check: FiniteCheck) -> None:
    """Stops the run on all ranks if a loss or gradient is not finite.

    Raises:
        RunStopped: on every rank; names the step, the samples whose loss is not finite, and what to do next.
    """
    scaler = run.ranks.accelerator.scaler
    if scaler is not None and scaler.get_scale() < MIN_LOSS_SCALE:
        raise RunStopped(
            f"step {run.step}: the fp16 loss scale fell to {scaler.get_scale():g}: every gradient overflows; "
            "lower optimizer.lr, or use --precision bf16"
        )
    fault = finite_check.check(run.ranks)
    if fault is None:
        return
    step, slots = fault
    ids = [sample for sample in run.plan.step_ids(step - 1)[slots].ravel().tolist() if sample >= 0]
    what = f"the loss over samples {_shown(ids)} is not finite" if ids else "the gradient is not finite"
    command = f"lockstep replay {run.folder} --step {step}"
    raise RunStopped(f"step {step}: {what}; to find the cause, run: {command}")


def _shown(ids: list[int]) -> str:
    """The first of the sample ids, and how many more there are."""
    first = ", ".join(map(str, ids[:SHOWN_SAMPLES]))
    return f"{first} and {len(ids) - SHOWN_SAMPLES:,} more" if len(ids) > SHOWN_SAMPLES else first
