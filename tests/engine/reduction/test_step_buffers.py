"""What becomes of the buffers that a forward changes."""

import pytest
import torch
from torch import nn

from lockstep.engine.model_traits.buffers import BufferRules, buffer_rules
from lockstep.engine.reduction.step_buffers import StepBuffers
from lockstep.errors import ConfigError


class Counter(nn.Module):
    """A counter, a running maximum and a scratch value."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("peak", torch.zeros(2))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x):
        self.count += 1
        self.peak = torch.maximum(self.peak, x)  # another tensor in its place
        self.scratch += x
        return x


def test_each_kind_of_buffer_has_its_rule():
    model = nn.Sequential(
        nn.BatchNorm1d(2),
        nn.InstanceNorm1d(2, track_running_stats=True),
        nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
        nn.utils.spectral_norm(nn.Linear(2, 2)),
        Counter(),
    )
    changed = [name for name, _ in model.named_buffers()]
    rules = buffer_rules(model, changed, ("4.peak",))
    assert rules.reset == ("4.scratch",)
    assert rules.agreed == ("0.num_batches_tracked", "1.num_batches_tracked", "4.count")
    assert set(rules.averaged) == set(changed) - set(rules.reset) - set(rules.agreed)
    with pytest.raises(
        ConfigError,
        match=r"model\.average_buffers = \(\): does not name buffer '4\.peak', .* Counter changes",
    ):
        buffer_rules(model, changed, ())


def step(model, rules, values):
    """A step over micro-batches on one rank."""
    buffers = StepBuffers(model, rules)
    sums = [torch.zeros_like(value) for value in buffers.averaged()]
    buffers.begin_step()
    for value in values:
        buffers.begin_micro_batch()
        model(value)
        for total, left in zip(sums, buffers.end_micro_batch(), strict=True):
            total += left
    buffers.end_step(sums, len(values))
    return buffers


def test_floats_are_averaged_integers_agree_and_the_rest_is_reset():
    model = Counter()
    rules = buffer_rules(model, ["count", "peak", "scratch"], ("peak",))
    buffers = step(model, rules, [torch.tensor([1.0, 4.0]), torch.tensor([3.0, 2.0])])
    assert model.peak.tolist() == [2.0, 3.0]
    assert model.count == 1  # what every micro-batch left: each started from the step's own
    assert model.scratch.tolist() == [0.0, 0.0]
    assert buffers.disagreement() == ""
    step(model, rules, [torch.tensor([8.0, 0.0])])
    assert (model.peak.tolist(), model.count.item()) == ([8.0, 3.0], 2)


def test_integers_that_disagree_are_named():
    class Histogram(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

        def forward(self, x):
            self.seen += x.long()
            return x

    model = Histogram()
    buffers = step(model, BufferRules(agreed=("seen",)), [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
    assert buffers.disagreement() == "seen"
    assert buffers.disagreement() == ""


def test_batch_statistics_are_those_of_the_mean_over_micro_batches():
    torch.manual_seed(0)
    model, values = nn.BatchNorm1d(3, momentum=0.5), torch.randn(4, 5, 3)
    names = [name for name, _ in model.named_buffers()]
    step(model, buffer_rules(model, names, ()), list(values))
    assert torch.allclose(model.running_mean, 0.5 * values.mean(dim=(0, 1)), atol=1e-6)
    assert torch.allclose(model.running_var, 0.5 + 0.5 * values.var(dim=1).mean(dim=0), atol=1e-6)
    assert model.num_batches_tracked == 1
