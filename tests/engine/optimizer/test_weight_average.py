"""The moving average of the weights: its formula, what it leaves alone, and its names."""

import pytest
import torch
from torch import nn

from lockstep.config import Config, TrainConfig
from lockstep.engine import WeightAverage, evaluate_run, take_step
from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from runs import small_config, small_run


def test_the_average_follows_its_formula():
    """decay_t = min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage."""
    model = nn.Linear(3, 2)
    average, expected = WeightAverage(model, 0.3), model.weight.detach().double()
    for update in range(1, 8):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        average.update(update)
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * model.weight.double()
    assert torch.allclose(average.named()["weight"].double(), expected, atol=1e-6)


class Tied(nn.Module):
    """Two names for one parameter, a frozen one, a buffer, a complex and a half-precision parameter."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.other = nn.Linear(2, 2, bias=False)
        self.other.weight = self.one.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
        self.coarse = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        self.register_buffer("seen", torch.zeros(()))


def test_averages_are_kept_by_name_with_the_runs_own_buffers():
    model = Tied()
    average = WeightAverage(model, 0.999)
    with torch.no_grad():
        model.one.weight.fill_(4.0)
        model.phase.fill_(2j)
        model.coarse.fill_(1.5)
        model.seen.fill_(7)
    average.update(10_000)
    assert set(average.named()) == {"one.weight", "other.weight", "phase", "coarse"}
    state = average.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state["one.weight"], state["other.weight"])
    assert not torch.equal(state["one.weight"], model.one.weight)
    assert state["coarse"].tolist() == pytest.approx([1.0005] * 2)  # in bfloat16 it would stay 1
    assert (state["seen"].item(), state["frozen"].tolist()) == (7, [1, 1])
    again = WeightAverage(model, 0.999)
    again.load_state_dict({name: value.clone() for name, value in state.items()})
    assert weights_sha256(again.state_dict()) == weights_sha256(state)
    before = weights_sha256(model.state_dict())
    with average.applied():
        assert torch.equal(model.one.weight, state["one.weight"])
    assert weights_sha256(model.state_dict()) == before


def test_a_skipped_step_does_not_advance_the_average(monkeypatch):
    run, _ = small_run(small_config(train=TrainConfig(steps=3, ema=0.9)))
    take_step(run)
    before = weights_sha256(run.average.named())
    monkeypatch.setattr(run.reduction, "begin_update", lambda: True)
    take_step(run)
    assert run.skipped_steps == 1
    assert weights_sha256(run.average.named()) == before
    monkeypatch.undo()
    take_step(run)
    assert weights_sha256(run.average.named()) != before


def test_both_are_scored_and_the_weights_are_as_they_were():
    run, _ = small_run(small_config(train=TrainConfig(steps=3, ema=0.9)))
    take_step(run)
    before = weights_sha256(run.model.state_dict())
    record = evaluate_run(run)
    assert set(record) == {"test_loss", "test_accuracy", "ema_test_loss", "ema_test_accuracy"}
    assert record["test_loss"] != record["ema_test_loss"]
    assert weights_sha256(run.model.state_dict()) == before


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ConfigError, match=rf"train\.ema = {decay}: must be in \[0, 1\); 0 keeps no average"):
        Config(train=TrainConfig(ema=decay))
