"""The order of events of one optimizer step: as it really happened, and as the design demands it.

Demanded is: zero_grad → (forward → loss → backward) once per micro-batch → gradient sum → unscale (fp16
only) → clip → schedule → optimizer step. `schedule` is the moment the step's learning rate is written.
PyTorch's schedulers prepare the *next* step's rate after a step; here the rate is a pure function of the
step, and it is written just before the optimizer uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can happen in a step."""

    ZERO_GRAD = "zero_grad"
    FORWARD = "forward"
    LOSS = "loss"
    BACKWARD = "backward"
    GRADIENT_SUM = "gradient sum"
    UNSCALE = "unscale"
    CLIP = "clip"
    SCHEDULE = "schedule"
    OPTIMIZER_STEP = "optimizer step"
    SKIPPED_STEP = "skipped step"
    """What fp16 does instead of an optimizer step when the gradient overflowed."""


MICRO_BATCH_KINDS = (Kind.FORWARD, Kind.LOSS, Kind.BACKWARD)


@dataclass(frozen=True)
class Event:
    """Something that happened in a step."""

    kind: Kind
    micro_batch: int | None = None
    """Place in the rank's window, from 0; None for what is no part of a micro-batch."""

    def __str__(self) -> str:
        return self.kind if self.micro_batch is None else f"{self.kind}[{self.micro_batch}]"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """The first place where a step departs from the order."""

    position: int
    demanded: Event | None
    """None: the step should have ended."""
    happened: Event | None
    """None: the step ended."""
    events: tuple[Event, ...]

    def __str__(self) -> str:
        demanded = self.demanded or "the end of the step"
        happened = f"{self.happened} came" if self.happened else "the step ended"
        trace = [str(event) for event in self.events] + ["(end)"] * (self.happened is None)
        trace[self.position] = f">>> {trace[self.position]} <<<"
        return f"event {self.position + 1} must be {demanded}, but {happened}; trace: {' → '.join(trace)}"


class OrderError(RuntimeError):
    """A step that did not keep the order."""


def demanded_order(window: int, *, is_scaled: bool) -> list[Event]:
    """The events of a step, in order.

    Args:
        window: micro-batches of this rank.
        is_scaled: whether a gradient scaler is at work (fp16).
    """
    events = [Event(Kind.ZERO_GRAD)]
    events += [Event(kind, index) for index in range(window) for kind in MICRO_BATCH_KINDS]
    events += [Event(Kind.GRADIENT_SUM)]
    events += [Event(Kind.UNSCALE)] * is_scaled
    return [*events, Event(Kind.CLIP), Event(Kind.SCHEDULE), Event(Kind.OPTIMIZER_STEP)]


def first_violation(events: Sequence[Event], window: int, *, is_scaled: bool) -> Violation | None:
    """Where a step first departs from `demanded_order`; None if it does not."""
    demanded = demanded_order(window, is_scaled=is_scaled)
    for position in range(max(len(events), len(demanded))):
        wanted = demanded[position] if position < len(demanded) else None
        came = events[position] if position < len(events) else None
        may_skip = is_scaled and wanted == Event(Kind.OPTIMIZER_STEP)
        if came != wanted and not (may_skip and came == Event(Kind.SKIPPED_STEP)):
            return Violation(position=position, demanded=wanted, happened=came, events=tuple(events))
    return None


def as_text(events: Sequence[Event]) -> str:
    """The events on one line, the micro-batches of a whole window as '(forward → loss → backward) x 4'."""
    inner = [event for event in events if event.micro_batch is not None]
    window = len(inner) // len(MICRO_BATCH_KINDS)
    whole = [Event(kind, index) for index in range(window) for kind in MICRO_BATCH_KINDS]
    words = [str(event) for event in events]
    first = events.index(inner[0]) if inner else 0
    if window > 1 and list(events[first : first + len(whole)]) == whole and inner == whole:
        words[first : first + len(whole)] = [f"({' → '.join(MICRO_BATCH_KINDS)}) x {window}"]
    elif window == 1:
        words = [str(event.kind) for event in events]
    return " → ".join(words)
