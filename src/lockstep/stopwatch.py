"""Seconds spent in training, without what is not training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Counts the seconds of training over all starts of a run, and those of a lap between two records."""

    def __init__(self, step: int, earlier_seconds: float) -> None:
        self.lap_step = step
        """Steps done when the lap began."""
        self._earlier = earlier_seconds
        self._paused_at: float | None = None
        self.start()

    def start(self) -> None:
        """Begins to count, and the first lap: when the loop begins, after all set-up."""
        self._start = self._lap_start = time.perf_counter()

    def total(self) -> float:
        """Seconds so far, those of earlier starts included."""
        now = self._paused_at if self._paused_at is not None else time.perf_counter()
        return self._earlier + now - self._start

    def lap(self, step: int) -> tuple[int, float]:
        """The step at which the lap began and the seconds since; then begins the next one."""
        now = time.perf_counter()
        ended = self.lap_step, now - self._lap_start
        self.lap_step, self._lap_start = step, now
        return ended

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        self._paused_at = time.perf_counter()
        try:
            yield
        finally:
            pause = time.perf_counter() - self._paused_at
            self._start += pause
            self._lap_start += pause
            self._paused_at = None
