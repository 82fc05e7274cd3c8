"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from lockstep.config import ScheduleConfig

# OneCycleLR's defaults: the first rate is the peak / 25, the last one is the first / 10 000.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def lr_factor(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """The factor that multiplies the peak learning rates in a step, from 0 to 1.

    Args:
        step: optimizer step, counted from 0.
        num_steps: steps of the whole run.
        config: names the schedule.
    """
    return SCHEDULES[config.name](step, num_steps, config)


def constant(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """The peak rate in every step."""
    return 1.0


def cosine(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """Linear warm-up, then down to 0 along half a cosine: Loshchilov and Hutter, "SGDR" (2017), one cycle."""
    warmup = config.warmup * num_steps
    if step + 1 <= warmup:
        return (step + 1) / warmup
    return _half_cosine(1.0, 0.0, (step - warmup) / (num_steps - warmup))


def one_cycle(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """torch's OneCycleLR, up and down along half a cosine: Smith and Topin, "Super-convergence" (2017)."""
    peak, end = config.warmup * num_steps - 1, num_steps - 1
    if step <= peak:
        return _half_cosine(ONE_CYCLE_START, 1.0, step / peak if peak > 0 else 1.0)
    return _half_cosine(1.0, ONE_CYCLE_END, (step - peak) / (end - peak) if peak > 0 else step / max(end, 1))


def _half_cosine(start: float, end: float, fraction: float) -> float:
    """From start to end along half a cosine, as the fraction goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0))) / 2


SCHEDULES: dict[str, Callable[[int, int, ScheduleConfig], float]] = {
    "constant": constant,
    "one-cycle": one_cycle,
    "cosine": cosine,
}
"""Name → the factor, from a step, the number of steps, and the settings."""
