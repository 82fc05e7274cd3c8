import functools
import math
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from lockstep.config import OptimizerConfig
from lockstep.engine import OPTIMIZERS, build_optimizer
from lockstep.engine.optimizer import clip_grad_norm, parameter_groups, set_learning_rate, without_compiler
from lockstep.errors import ConfigError
from lockstep.task.models.rnn import CnnGru


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


@pytest.mark.parametrize("fused", [True, None])
@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_without_the_compiler_an_optimizer_gives_the_bits_of_torchs_own(name, kind, fused):
    model = nn.Sequential(nn.Linear(7, 13), nn.Tanh(), nn.Linear(13, 3))
    other = deepcopy(model)
    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.01)
    optimizer = build_optimizer(model, config, fused=fused)
    assert isinstance(optimizer, kind)
    settings = {"momentum": config.momentum} if name == "sgd" else {"betas": config.betas}
    torchs = kind(other.parameters(), lr=0.1, weight_decay=0.01, fused=fused, **settings)
    for step in range(5):
        inputs = torch.randn(4, 7, generator=torch.Generator().manual_seed(step))
        for each, network in ((optimizer, model), (torchs, other)):
            each.zero_grad()
            network(inputs).square().sum().backward()
            each.step()
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, another)
        for key, value in optimizer.state[one].items():
            assert torch.equal(value, torchs.state[another][key]), key
    torchs.load_state_dict(optimizer.state_dict())
    optimizer.load_state_dict(torchs.state_dict())


def test_only_known_wrappers_are_removed():
    """Another version of torch may have no wrappers, or some that do more than call the compiler."""

    class Unwrapped(torch.optim.SGD):
        def step(self, closure=None):
            return "stepped"

    def doubled(method):
        @functools.wraps(method)
        def twice(*arguments):
            return method(*arguments) * 2

        return twice

    class Wrapped(Unwrapped):
        step = doubled(Unwrapped.step)

    parameters = [nn.Parameter(torch.zeros(2))]
    assert without_compiler(Unwrapped)(parameters).step() == "stepped"
    assert without_compiler(Wrapped)(parameters).step() == "stepped" * 2


def test_a_step_records_no_gradient_and_runs_hooks_once():
    model = nn.Linear(2, 2)
    torch.optim.Adam(model.parameters())  # leaves torch's profiling wrapper around torch's own class
    optimizer = without_compiler(torch.optim.Adam)(model.parameters())
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert len(calls) == 1
    assert not model.weight.grad.requires_grad
    assert model.weight.is_leaf


@pytest.mark.parametrize("max_norm", [0.5, 1e6, math.inf])
def test_clipping_gives_the_bits_of_torchs_own(max_norm):
    model = CnnGru()
    model(torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    other = deepcopy(model)
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        another.grad = one.grad.clone()
    norm = clip_grad_norm(list(model.parameters()), max_norm)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(other.parameters(), max_norm))
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, another.grad)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_imports_neither_the_compiler_nor_distributed_tensors(name):
    program = """
import sys, torch
from lockstep.config import OptimizerConfig
from lockstep.engine.optimizer import build_optimizer, clip_grad_norm
model = torch.nn.Linear(2, 2)
optimizer = build_optimizer(model, OptimizerConfig(name=sys.argv[1]), fused=True)
optimizer.zero_grad()
model(torch.ones(1, 2)).sum().backward()
clip_grad_norm(list(model.parameters()), 1.0)
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
heavy = {"torch._dynamo", "torch.distributed.tensor"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    assert subprocess.run([sys.executable, "-c", program, name], check=False).returncode == 0


def test_a_group_without_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.groups = 'cnn': has no parameters of its own"):
        build_optimizer(
            CnnGru(), OptimizerConfig(groups={"cnn": 0.1, "cnn.conv1": 0.1, "cnn.conv2": 0.1}), fused=False
        )
