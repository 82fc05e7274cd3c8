"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from lockstep.config import ScheduleConfig

# OneCycleLR's defaults: the first rate is the peak / 25, the last is the first / 10 000.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def lr_factor(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """What the peak rate is multiplied by in a step.

    Args:
        step: optimizer step, counted from 0.
        num_steps: steps of the whole run.
        config: one-cycle is Smith and Topin, "Super-convergence" (2017), as torch's OneCycleLR computes it.
    """
    if config.name == "constant":
        return 1.0
    if config.name == "cosine":
        warmup = config.warmup * num_steps
        if step + 1 <= warmup:
            return (step + 1) / warmup
        return _cosine(1.0, 0.0, (step - warmup) / (num_steps - warmup))
    peak, end = config.warmup * num_steps - 1, num_steps - 1
    if step <= peak:
        return _cosine(ONE_CYCLE_START, 1.0, step / peak if peak > 0 else 1.0)
    return _cosine(1.0, ONE_CYCLE_END, (step - peak) / (end - peak) if peak > 0 else step / max(end, 1))


def _cosine(start: float, end: float, part: float) -> float:
    """From start to end along half a cosine, for part from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(part, 0.0), 1.0))) / 2
