import functools
import math
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from lockstep.config import OPTIMIZER_SETTINGS, OptimizerConfig
from lockstep.engine import OPTIMIZERS, build_optimizer
from lockstep.engine.optimizer.optimizer import FUSED, clip_gradients
from lockstep.engine.optimizer.optimizer_kinds import optimizer_kind, without_compiler
from lockstep.errors import ConfigError
from lockstep.task.models.rnn import CnnGru
from processes import run, with_support

TORCHS_OWN = {name.lower(): kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}


@pytest.mark.parametrize(
    ("name", "fused"), [*((name, None) for name in OPTIMIZERS), *((name, True) for name in FUSED)]
)
def test_without_the_compiler_an_optimizer_gives_the_bits_of_torchs_own(name, fused):
    model = nn.Sequential(nn.Linear(7, 13, bias=False), nn.Tanh(), nn.Linear(13, 3, bias=False))
    other = deepcopy(model)
    decay = {} if name == "rprop" else {"weight_decay": 0.01}
    config = OptimizerConfig(name=name, lr=0.1, **decay)
    optimizer = build_optimizer(model, config, fused=fused)
    kind = TORCHS_OWN[name]
    assert isinstance(optimizer, kind)
    settings = {setting: getattr(config, setting) for setting in OPTIMIZER_SETTINGS.get(name, ())}
    if name in FUSED:
        settings["fused"] = fused
    torchs = kind(other.parameters(), lr=0.1, **decay, **settings)
    for step in range(5):
        inputs = torch.randn(4, 7, generator=torch.Generator().manual_seed(step))
        for each, network in ((optimizer, model), (torchs, other)):
            each.zero_grad()
            network(inputs).square().sum().backward()
            each.step()
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, another)
        for key, value in optimizer.state[one].items():
            same = torchs.state[another][key]
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, key
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
    norm = nn.utils.get_total_norm([each.grad for each in model.parameters()])
    clip_gradients(list(model.parameters()), max_norm, norm)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(other.parameters(), max_norm))
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, another.grad)


def test_a_run_and_its_steps_import_neither_the_compiler_nor_distributed_tensors():
    program = """
import sys, torch
HEAVY = {"torch._dynamo", "torch.distributed.tensor"}
from lockstep.config import OPTIMIZER_SETTINGS, OptimizerConfig
from lockstep.engine.optimizer.optimizer import build_optimizer, clip_gradients
for name in sys.argv[1:]:
    model = torch.nn.Linear(2, 2, bias=False)
    optimizer = build_optimizer(model, OptimizerConfig(name=name), fused=True)
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    norm = torch.nn.utils.get_total_norm([model.weight.grad])
    clip_gradients(list(model.parameters()), 1.0, norm)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    if HEAVY & set(sys.modules):
        sys.exit(f"{name} imported {HEAVY & set(sys.modules)}")

from lockstep.engine import take_step
from runs import small_config, small_run
take_step(small_run(small_config())[0])
if HEAVY & set(sys.modules):
    sys.exit(f"a run imported {HEAVY & set(sys.modules)}")
"""
    result = run([sys.executable, "-c", program, *OPTIMIZERS], env=with_support(), popen=subprocess.Popen)
    assert result.returncode == 0, result.stderr


class Own(torch.optim.SGD):
    """Without weight decay, and with an argument of its own."""

    def __init__(self, params, lr, size=1):
        super().__init__(params, lr)
        self.size = size


class WithClosure(torch.optim.SGD):
    def step(self, closure):
        return super().step(closure)


class Sparse(torch.optim.SparseAdam):
    pass


def test_a_users_own_class_takes_its_arguments():
    config = OptimizerConfig(name=f"{__name__}:Own", args={"size": 3})
    optimizer = build_optimizer(nn.Linear(2, 2), config, fused=True)
    assert isinstance(optimizer, Own)
    assert (optimizer.size, optimizer.param_groups[0]["lr"]) == (3, config.lr)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "adam", "args": {"epsilon": 1}},
            "optimizer.args.epsilon = 1: is not an argument of Adam; ",
        ),
        (
            {"name": "adam", "args": {"fused": True}},
            "optimizer.args.fused = True: is passed by Lockstep itself",
        ),
        (
            {"name": "adam", "args": {"eps": -1.0}},
            "optimizer.name = 'adam': torch refuses it with",
        ),
        (
            {"name": "muon"},
            "torch refuses it with this model and these settings (Muon only",
        ),
        ({"name": "rprop", "weight_decay": 0.1}, "optimizer.weight_decay = 0.1: Rprop has no weight decay"),
        ({"name": "rprop", "no_decay": True}, "optimizer.no_decay = True: Rprop has no weight decay"),
        (
            {"name": f"{__name__}:Own", "args": {"sizes": 3}},
            "sizes = 3: is not an argument of Own; it takes size; ",
        ),
        (
            {"name": f"{__name__}:Own", "weight_decay": 0.1},
            "optimizer.weight_decay = 0.1: Own has no weight decay",
        ),
        ({"name": f"{__name__}:WithClosure"}, "its step needs a closure"),
        ({"name": f"{__name__}:Sparse"}, "is for sparse gradients"),
        (
            {"name": "torch.nn:Linear"},
            "'torch.nn:Linear': is not a subclass of torch.optim.Optimizer",
        ),
        ({"name": "torch.optim:Adm"}, "has no 'Adm'); perhaps you meant 'Adam'"),
    ],
)
def test_a_wrong_optimizer_is_one_line(settings, message):
    with pytest.raises(ConfigError) as refusal:
        build_optimizer(nn.Linear(2, 2), OptimizerConfig(**settings), fused=None)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_formula_is_offered_only_where_it_holds():
    assert optimizer_kind(OptimizerConfig(name="adamw", args={"eps": 1e-6})).formula is not None
    for config in (
        OptimizerConfig(name="adamw", args={"amsgrad": True}),
        OptimizerConfig(name="rmsprop"),
        OptimizerConfig(name=f"{__name__}:Own"),
    ):
        kind = optimizer_kind(config)
        assert (kind.formula, kind.text) == (None, "")
