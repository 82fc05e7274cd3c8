import time

import pytest
import torch

from lockstep.engine import Stopwatch


def test_training_time_spans_all_starts_and_excludes_pauses(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Stopwatch(7, earlier_seconds=50, device=torch.device("cpu"))
    now = 110.0
    clock.start()  # setup does not count
    now = 113.0
    assert clock.next_interval(9) == (7, 3.0)
    now = 114.0
    with clock.paused():
        now = 120.0
        assert clock.total() == 54.0  # what a checkpoint stores while the clock is paused
    now = 121.0
    assert clock.next_interval(10) == (9, 2.0)
    assert clock.total() == pytest.approx(55.0)
