import time

import pytest
import torch

from lockstep.engine import Stopwatch


def test_seconds_of_all_starts_without_the_pauses(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Stopwatch(7, earlier_seconds=50, device=torch.device("cpu"))
    now = 110.0
    clock.start()  # set-up does not count
    now = 113.0
    assert clock.lap(9) == (7, 3.0)
    now = 114.0
    with clock.paused():
        now = 120.0
        assert clock.total() == 54.0  # what a checkpoint saves while the clock is paused
    now = 121.0
    assert clock.lap(10) == (9, 2.0)
    assert clock.total() == pytest.approx(55.0)
