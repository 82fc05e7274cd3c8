"""The learning rate as a pure function of the step."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable

from lockstep.config import ScheduleConfig, import_reference
from lockstep.errors import refuse, require

# OneCycleLR's defaults: the first rate is the peak / 25, the last one is the first / 10 000.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def lr_factor(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """The factor that multiplies the peak learning rates in a step; from 0 to 1, unless it is a user's own.

    Args:
        step: optimizer step, counted from 0.
        num_steps: steps of the whole run.
        config: names the schedule.
    """
    if config.name in SCHEDULES:
        return SCHEDULES[config.name](step, num_steps, config)
    return float(_users_schedule(config.name)(step, num_steps))


def check_schedule_name(config: ScheduleConfig) -> None:
    """Checks that there is such a schedule.

    Raises:
        ConfigError: it cannot be imported or called.
    """
    if config.name not in SCHEDULES:
        _users_schedule(config.name)


def check_schedule(num_steps: int, config: ScheduleConfig) -> None:
    """Checks a user's own schedule at the first step of a run and at the last.

    An error inside of it is its author's to fix and keeps its traceback.

    Raises:
        ConfigError: it cannot be imported or called, or does not give a finite factor >= 0.
    """
    if config.name in SCHEDULES:
        return
    schedule = _users_schedule(config.name)
    for step in sorted({0, num_steps - 1}):
        factor = schedule(step, num_steps)
        is_number = isinstance(factor, numbers.Real)
        rule = f"gives {factor!r} in step {step} of {num_steps}; it must give a finite number >= 0"
        require(is_number and 0 <= factor < math.inf, "schedule.name", config.name, rule)


@functools.lru_cache
def _users_schedule(name: str) -> Callable[[int, int], float]:
    target = import_reference("schedule.name", name)
    try:
        inspect.signature(target).bind(0, 1)
    except TypeError as error:
        rule = f"cannot be called with (step, number of steps): {error}; name a function that takes both"
        raise refuse("schedule.name", name, rule) from error
    return target


def constant(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """The peak rate in every step."""
    return 1.0


def cosine(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """Linear warm-up, then down to 0 along half a cosine: Loshchilov and Hutter, "SGDR" (2017), one cycle."""
    return _warm_up_then(functools.partial(_half_cosine, 1.0, 0.0), step, num_steps, config.warmup)


def linear(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """Linear warm-up, then down along a line: Devlin et al., "BERT" (2019). The step after the last has 0."""
    return _warm_up_then(lambda fraction: 1.0 - fraction, step, num_steps, config.warmup)


def one_cycle(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """torch's OneCycleLR, up and down along half a cosine: Smith and Topin, "Super-convergence" (2017)."""
    peak, end = config.warmup * num_steps - 1, num_steps - 1
    if step <= peak:
        return _half_cosine(ONE_CYCLE_START, 1.0, step / peak if peak > 0 else 1.0)
    return _half_cosine(1.0, ONE_CYCLE_END, (step - peak) / (end - peak) if peak > 0 else step / max(end, 1))


def _warm_up_then(decay: Callable[[float], float], step: int, num_steps: int, warmup: float) -> float:
    """Up along a line for a fraction of the steps, then `decay` of the part of the others that is over."""
    num_up = warmup * num_steps
    if step + 1 <= num_up:
        return (step + 1) / num_up
    return decay(max(0.0, step - num_up) / (num_steps - num_up))


def _half_cosine(start: float, end: float, fraction: float) -> float:
    """From start to end along half a cosine, as the fraction goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0))) / 2


SCHEDULES: dict[str, Callable[[int, int, ScheduleConfig], float]] = {
    "constant": constant,
    "one-cycle": one_cycle,
    "cosine": cosine,
    "linear": linear,
}
"""Name → the factor, from a step, the number of steps, and the settings."""
