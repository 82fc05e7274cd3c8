"""The events of one optimizer step: the expected order, and where an observed order differs from it.

Expected: zero_grad → (forward → loss → backward) once per micro-batch → gradient sum → unscale (fp16 only) →
clip → schedule → optimizer step. `schedule` is where the step's learning rate is written. PyTorch's
schedulers set the *next* step's rate after a step; here the rate is a pure function of the step, written just
before the optimizer uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class EventKind(StrEnum):
    """The kinds of events in a step."""

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
    """In fp16, instead of an optimizer step, when the gradient overflowed."""


MICRO_BATCH_KINDS = (EventKind.FORWARD, EventKind.LOSS, EventKind.BACKWARD)


@dataclass(frozen=True)
class Event:
    """One event of a step."""

    kind: EventKind
    micro_batch: int | None = None
    """Index in the rank's window, from 0; None for an event outside the micro-batches."""

    def __str__(self) -> str:
        return self.kind if self.micro_batch is None else f"{self.kind}[{self.micro_batch}]"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """The first event of a step that is out of order."""

    index: int
    expected: Event | None
    """None: the end of the step."""
    actual: Event | None
    """None: the end of the step."""
    events: tuple[Event, ...]

    def __str__(self) -> str:
        expected, actual = (event or "the end of the step" for event in (self.expected, self.actual))
        trace = [str(event) for event in self.events] + ["(end)"] * (self.actual is None)
        trace[self.index] = f">>> {trace[self.index]} <<<"
        return f"event {self.index + 1}: expected {expected}, got {actual}; trace: {' → '.join(trace)}"


class OrderError(RuntimeError):
    """The events of a step were out of order."""


def expected_order(window: int, *, is_scaled: bool) -> list[Event]:
    """The events of a correct step, in order.

    Args:
        window: number of micro-batches on this rank.
        is_scaled: whether a gradient scaler is in use (fp16).
    """
    events = [Event(EventKind.ZERO_GRAD)]
    events += [Event(kind, index) for index in range(window) for kind in MICRO_BATCH_KINDS]
    events += [Event(EventKind.GRADIENT_SUM)]
    events += [Event(EventKind.UNSCALE)] * is_scaled
    return [*events, Event(EventKind.CLIP), Event(EventKind.SCHEDULE), Event(EventKind.OPTIMIZER_STEP)]


def first_violation(events: Sequence[Event], window: int, *, is_scaled: bool) -> Violation | None:
    """Where a step first differs from `expected_order`; None if it does not."""
    order = expected_order(window, is_scaled=is_scaled)
    for index in range(max(len(events), len(order))):
        expected = order[index] if index < len(order) else None
        actual = events[index] if index < len(events) else None
        may_skip = is_scaled and expected == Event(EventKind.OPTIMIZER_STEP)
        if actual != expected and not (may_skip and actual == Event(EventKind.SKIPPED_STEP)):
            return Violation(index=index, expected=expected, actual=actual, events=tuple(events))
    return None


def format_events(events: Sequence[Event]) -> str:
    """The events on one line; a complete window becomes '(forward → loss → backward) x 4'."""
    in_window = [event for event in events if event.micro_batch is not None]
    window = len(in_window) // len(MICRO_BATCH_KINDS)
    complete = [Event(kind, index) for index in range(window) for kind in MICRO_BATCH_KINDS]
    words = [str(event) for event in events]
    first = events.index(in_window[0]) if in_window else 0
    if window > 1 and list(events[first : first + len(complete)]) == complete and in_window == complete:
        words[first : first + len(complete)] = [f"({' → '.join(MICRO_BATCH_KINDS)}) x {window}"]
    elif window == 1:
        words = [str(event.kind) for event in events]
    return " → ".join(words)
