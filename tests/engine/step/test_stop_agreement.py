"""When the ranks ask each other whether to stop, and when they read the answer."""

from dataclasses import replace

import pytest

from lockstep.config import TrainConfig
from lockstep.engine import Observer, train
from lockstep.engine.step.stop_agreement import StopAgreement
from lockstep.launch.ranks.ranks import Ranks
from runs import small_config, small_run


@pytest.fixture
def events(monkeypatch):
    """What happens, in order; an answer takes no time, and is always no."""
    happened = []

    def begin(self, flag):
        happened.append("asked")
        return lambda: bool(happened.append("answered"))

    monkeypatch.setattr(Ranks, "begin_agreement", begin)
    return happened


def test_the_ranks_agree_while_they_compute_a_step(tmp_path, events):
    """Gloo takes as long as a quarter of a GPU's step to pass the answer on, with two ranks."""

    class Steps(Observer):
        def on_step_end(self, run, result):
            events.append("step")

    run, _ = small_run(small_config(tmp_path, train=TrainConfig(steps=3)))
    train(run, Steps())
    assert events == ["asked", "step", "answered"] * 2 + ["step"]  # after the last step nobody asks


def test_many_ranks_read_the_answer_some_steps_later_or_before_the_run_may_end(events):
    run, _ = small_run(small_config(train=TrainConfig(steps=20)))
    run.ranks = replace(run.ranks, world_size=64)
    run.step_seconds = 1e-3  # three pass until each of 64 ranks has passed the answer on
    agreement = StopAgreement(run)
    for _ in range(10):
        agreement.before_step()
        run.step += 1
        events.append(run.step)
        assert not agreement.after_step(may_end=run.step == 10)
    expected = ["asked", 1, 2, 3, 4, "answered", "asked", 5, 6, 7, 8, "answered", "asked", 9, 10, "answered"]
    assert events == expected


def test_a_record_tells_how_long_a_step_takes(tmp_path):
    run, _ = small_run(small_config(tmp_path, train=TrainConfig(steps=3)))
    assert run.step_seconds == 0
    train(run)
    assert 0 < run.step_seconds < 10
