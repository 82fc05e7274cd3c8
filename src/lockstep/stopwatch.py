"""Seconds spent in training, without what is not training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds of training since the last lap, without what happened while paused."""

    def __init__(self, step: int) -> None:
        self.step = step
        """Steps done when the lap began."""
        self._start = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, and starts the next one."""
        now = time.perf_counter()
        seconds, self._start = now - self._start, now
        return seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - begin
