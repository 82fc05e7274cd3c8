import pytest
import torch
from torch import nn

from lockstep.config import ScheduleConfig
from lockstep.engine import lr_factor


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
