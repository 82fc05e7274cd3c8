"""Where the seconds go: of a start, of training without what is not training, and of the parts of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Counts the seconds of training over all starts of a run, and those of a lap between two records."""

    def __init__(self, step: int, earlier_seconds: float, device: torch.device) -> None:
        self.lap_step = step
        """Steps done when the lap began."""
        self._earlier = earlier_seconds
        self._on_cuda = device.type == "cuda"
        self._paused_at: float | None = None
        self.start()

    def start(self) -> None:
        """Begins to count, and the first lap: when the loop begins, after all set-up."""
        self._start = self._lap_start = time.perf_counter()

    def total(self) -> float:
        """Seconds so far, those of earlier starts included."""
        return self._earlier + self.this_start()

    def this_start(self) -> float:
        """Seconds so far of this start alone."""
        now = self._paused_at if self._paused_at is not None else time.perf_counter()
        return now - self._start

    def lap(self, step: int) -> tuple[int, float]:
        """The step at which the lap began and the seconds since; then begins the next one."""
        now = time.perf_counter()
        ended = self.lap_step, now - self._lap_start
        self.lap_step, self._lap_start = step, now
        return ended

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count. A sync point on CUDA: what was asked before counts in full."""
        if self._on_cuda:
            torch.cuda.synchronize()
        self._paused_at = time.perf_counter()
        try:
            yield
        finally:
            pause = time.perf_counter() - self._paused_at
            self._start += pause
            self._lap_start += pause
            self._paused_at = None


class Phases:
    """Seconds of one start by phase, one after the other."""

    def __init__(self, began: float) -> None:
        """Args: began: when the first phase did, as `time.perf_counter` counts."""
        self.seconds: dict[str, float] = {}
        self._at = began

    def end(self, name: str) -> None:
        """Ends a phase; the next one begins."""
        now = time.perf_counter()
        self.seconds[name] = now - self._at
        self._at = now

    def split(self, name: str, other: str, seconds: float) -> None:
        """Leaves a phase so many seconds; what was more of it belongs to the other."""
        self.seconds[other] = self.seconds[name] - seconds
        self.seconds[name] = seconds


class StepTimer:
    """Seconds that parts of a step take on a device. Only reading them waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._seconds: dict[str, float] = {}
        self._spans: list[
            tuple[str, Any, Any]
        ] = []  # pairs of CUDA events, of which the seconds are not known yet

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Counts what happens inside as a part."""
        begin = self._mark()
        yield
        end = self._mark()
        if self._on_cuda:
            self._spans.append((name, begin, end))
        else:
            self._add(name, end - begin)

    def read(self) -> dict[str, float]:
        """Seconds of each part since the last reading. A sync point on CUDA."""
        if self._on_cuda:
            torch.cuda.synchronize()
        for name, begin, end in self._spans:
            self._add(name, begin.elapsed_time(end) / 1e3)
        self._spans.clear()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def _mark(self) -> Any:
        """Now: on the device's own queue of work where it has one."""
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
