"""In bf16 a window casts each weight once: the bits are those of a cast for each micro-batch."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lockstep.config import BatchConfig, Config
from lockstep.engine import loop, take_step
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import Task
from runs import built_run
from tasks import line_data

WINDOW = 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(1, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.middle(self.one(x).tanh()))

    def middle(self, x):
        return self.two(x)


class Checkpointed(Net):
    def middle(self, x):
        return checkpoint(self.two, x, use_reentrant=False)


class Reentrant(Net):
    def middle(self, x):
        return checkpoint(self.two, x, use_reentrant=True)


class WithoutGradientFirst(Net):
    """torch once cached the cast that the first use makes, without a gradient."""

    def middle(self, x):
        with torch.no_grad():
            scale = self.two(x).abs().mean()
        return self.two(x) / scale


class SometimesWithoutGradient(Net):
    def middle(self, x):
        with torch.set_grad_enabled(bool(torch.rand(()) < 0.5)):
            extra = self.two(x)
        return x + extra


class OwnAutocast(Net):
    def middle(self, x):
        with torch.autocast("cpu", enabled=False):
            full = self.two(x.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.two(x) + full


class OwnClearing(Net):
    def middle(self, x):
        torch.clear_autocast_cache()
        return self.two(x)


def bf16_run(net):
    batch = BatchConfig(global_size=8 * WINDOW, micro_size=8)
    task = Task(name="line", model=net, train=lambda: line_data(70), loss=nn.functional.mse_loss)
    return built_run(Config(precision="bf16", batch=batch), task=task)


def digest_after_three_steps(net):
    run = bf16_run(net)
    for _ in range(3):  # the last one has a short micro-batch
        take_step(run)
    return weights_sha256(run.model.state_dict())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of reentrant checkpoints
@pytest.mark.parametrize(
    "net",
    [
        Net,
        Checkpointed,
        Reentrant,
        WithoutGradientFirst,
        SometimesWithoutGradient,
        OwnAutocast,
        OwnClearing,
    ],
)
def test_weights_that_are_cast_once_give_the_same_bits(net, monkeypatch):
    kept = digest_after_three_steps(net)
    monkeypatch.setattr(loop, "kept_casts", lambda accelerator: contextlib.nullcontext())
    assert digest_after_three_steps(net) == kept


class Casts(TorchDispatchMode):
    """Counts the casts of parameters."""

    def __init__(self, parameters):
        super().__init__()
        self.pointers, self.number = {each.data_ptr() for each in parameters}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.pointers:
            self.number += 1
        return func(*args, **(kwargs or {}))


def test_a_step_casts_each_weight_once():
    run = bf16_run(Net)
    parameters = list(run.model.parameters())
    with Casts(parameters) as casts:
        take_step(run)
    assert casts.number == len(parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16), Casts(parameters) as casts:
        take_step(run)
        take_step(run)
    assert casts.number == 2 * len(parameters)  # also where a program's own autocast would keep them
