"""Timers: for the phases of a start, the training time of a run, and the sections of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.autograd.profiler import record_function


class Stopwatch:
    """Measures training time, in seconds, over all starts of a run and between two records."""

    def __init__(self, step: int, earlier_seconds: float, device: torch.device) -> None:
        self.interval_step = step
        """Steps done when the interval began."""
        self._earlier = earlier_seconds
        self._on_cuda = device.type == "cuda"
        self._paused_at: float | None = None
        self.start()

    def start(self) -> None:
        """Starts counting, and the first interval. Call it when the loop begins, after all setup."""
        self._start = self._interval_start = time.perf_counter()

    def total(self) -> float:
        """Seconds so far, including earlier starts."""
        return self._earlier + self.this_start()

    def this_start(self) -> float:
        """Seconds so far in this start alone."""
        now = self._paused_at if self._paused_at is not None else time.perf_counter()
        return now - self._start

    def next_interval(self, step: int) -> tuple[int, float]:
        """Returns the step at which the interval began and its seconds so far, and starts the next one."""
        now = time.perf_counter()
        ended = self.interval_step, now - self._interval_start
        self.interval_step, self._interval_start = step, now
        return ended

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops counting inside. A sync point on CUDA: work queued before still counts in full."""
        if self._on_cuda:
            torch.cuda.synchronize()
        self._paused_at = time.perf_counter()
        try:
            yield
        finally:
            pause = time.perf_counter() - self._paused_at
            self._start += pause
            self._interval_start += pause
            self._paused_at = None


class PhaseTimer:
    """Measures the phases of one start, which follow one another."""

    def __init__(self, began: float) -> None:
        """Args: began: when the first phase began, a value of `time.perf_counter`."""
        self.seconds: dict[str, float] = {}
        """Name of a phase → its seconds."""
        self._phase_began = began

    def end_phase(self, name: str) -> None:
        """Ends the current phase, giving it its name, and begins the next one."""
        now = time.perf_counter()
        self.seconds[name] = now - self._phase_began
        self._phase_began = now

    def split_phase(self, name: str, seconds: float, rest: str) -> None:
        """Leaves a phase the given seconds and moves the rest of its time to another phase."""
        self.seconds[rest] = self.seconds[name] - seconds
        self.seconds[name] = seconds


class StepTimer:
    """Measures sections of a step on the device. Only `read` waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        # The one that a step runs on; looking it up for each event would take as long as a launch.
        self._stream = torch.cuda.current_stream(device) if self._on_cuda else None
        self.current = ""
        """The section that this thread is in, or 'after' the last one."""
        self._seconds: dict[str, float] = {}
        # Pairs of CUDA events whose seconds are not known yet.
        self._pending: list[tuple[str, Any, Any]] = []
        self.is_profiled = False
        """Whether a profiler runs, which is then told of the sections."""

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Counts the time spent inside as this section's."""
        start, self.current = self._mark(), name
        with record_function(f"lockstep: {name}") if self.is_profiled else nullcontext():
            yield
        end, self.current = self._mark(), f"after {name}"
        if self._on_cuda:
            self._pending.append((name, start, end))
        else:
            self._add(name, end - start)

    def read(self) -> dict[str, float]:
        """Returns each section's seconds since the last call. A sync point on CUDA."""
        if self._on_cuda:
            torch.cuda.synchronize()
        for name, start, end in self._pending:
            self._add(name, start.elapsed_time(end) / 1e3)
        self._pending.clear()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def _mark(self) -> Any:
        """The current time; on CUDA, an event in the device's queue."""
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event
