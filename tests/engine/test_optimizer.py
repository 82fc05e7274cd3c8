import subprocess
import sys

import pytest
import torch
from torch import nn

from lockstep.config import OptimizerConfig, ScheduleConfig
from lockstep.engine import build_optimizer, lr_factor
from lockstep.engine.optimizer import parameter_groups, set_learning_rate
from lockstep.errors import ConfigError
from lockstep.models.rnn import CnnGru


@pytest.mark.parametrize("num_steps", [10, 705, 1000])
@pytest.mark.parametrize("warmup", [0.2, 0.3, 0.5])
def test_one_cycle_is_torchs(num_steps, warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=num_steps, pct_start=warmup, cycle_momentum=False
    )
    config = ScheduleConfig(name="one-cycle", warmup=warmup)
    for step in range(num_steps):
        assert lr_factor(step, num_steps, config) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < num_steps - 1:
            theirs.step()


def test_cosine_warms_up_and_goes_to_zero():
    config = ScheduleConfig(name="cosine", warmup=0.1)
    factors = [lr_factor(step, 100, config) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == 1.0
    assert sorted(factors[10:], reverse=True) == factors[10:]
    assert 0 < factors[-1] < 1e-3


def test_constant_and_single_step_schedules():
    assert lr_factor(7, 10, ScheduleConfig(name="constant")) == 1.0
    for name in ("one-cycle", "cosine"):
        for warmup in (0.0, 0.5):
            assert 0 < lr_factor(0, 1, ScheduleConfig(name=name, warmup=warmup)) <= 1.0


def test_groups_take_their_own_rates_and_freeze_the_rest():
    model = CnnGru()
    optimizer = build_optimizer(model, OptimizerConfig(groups={"gru": 0.1}), fused=False)
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [("gru", 0.1)]
    assert all(parameter.requires_grad for parameter in model.gru.parameters())
    assert not any(parameter.requires_grad for parameter in model.cnn.parameters())


def test_innermost_group_owns_a_parameter():
    model = CnnGru()
    groups = parameter_groups(model, OptimizerConfig(groups={"gru": 0.1, "gru.head": 0.2, "cnn": 0.3}))
    sizes = {group["name"]: len(group["params"]) for group in groups}
    assert sizes == {"gru": 4, "gru.head": 2, "cnn": 4}


def test_rates_scale_together():
    optimizer = build_optimizer(CnnGru(), OptimizerConfig(groups={"cnn": 0.1, "gru": 0.4}), fused=False)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]


def test_unknown_module_is_answered_with_the_valid_ones():
    with pytest.raises(ConfigError, match=r"optimizer\.groups = 'grew'.*cnn, .*gru"):
        build_optimizer(CnnGru(), OptimizerConfig(groups={"grew": 0.1}), fused=False)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers_are_torchs(name, kind):
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(model.state_dict())
    optimizer = build_optimizer(model, OptimizerConfig(name=name, lr=0.1, weight_decay=0.01), fused=True)
    assert isinstance(optimizer, kind)
    settings = {"momentum": 0.9} if name == "sgd" else {}
    torchs = kind(other.parameters(), lr=0.1, weight_decay=0.01, fused=True, **settings)
    for _ in range(3):
        for each, network in ((optimizer, model), (torchs, other)):
            each.zero_grad()
            network(torch.ones(1, 2)).square().sum().backward()
            each.step()
    assert torch.equal(model.weight, other.weight)
    torchs.load_state_dict(optimizer.state_dict())
    optimizer.load_state_dict(torchs.state_dict())


def test_an_optimizer_does_not_import_the_compiler():
    program = """
import sys, torch
from lockstep.config import OptimizerConfig
from lockstep.engine.optimizer import build_optimizer
model = torch.nn.Linear(2, 2)
optimizer = build_optimizer(model, OptimizerConfig(), fused=True)
optimizer.zero_grad()
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_group_without_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.groups = 'cnn': has no parameters of its own"):
        build_optimizer(
            CnnGru(), OptimizerConfig(groups={"cnn": 0.1, "cnn.conv1": 0.1, "cnn.conv2": 0.1}), fused=False
        )
