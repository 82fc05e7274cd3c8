import math

import pytest
import torch
from torch import nn

from lockstep.config import ScheduleConfig
from lockstep.engine import check_schedule, lr_factor
from lockstep.errors import ConfigError


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


def test_linear_warms_up_and_goes_down_along_a_line():
    config = ScheduleConfig(name="linear", warmup=0.1)
    factors = [lr_factor(step, 100, config) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)])


def test_constant_and_single_step_schedules():
    assert lr_factor(7, 10, ScheduleConfig(name="constant")) == 1.0
    for name in ("one-cycle", "cosine", "linear"):
        for warmup in (0.0, 0.5):
            assert 0 < lr_factor(0, 1, ScheduleConfig(name=name, warmup=warmup)) <= 1.0


def linear(step, num_steps):
    return 1 - step / num_steps


def goes_below_zero(step, num_steps):
    return 1 - 2 * step / num_steps


def without_steps(step):
    return 1.0


def of_infinity(step, num_steps):
    return math.inf


def of_text(step, num_steps):
    return "1"


def test_a_users_own_schedule_gives_the_factor():
    config = ScheduleConfig(name=f"{__name__}:linear")
    check_schedule(10, config)
    assert [lr_factor(step, 10, config) for step in (0, 5, 9)] == [1.0, 0.5, pytest.approx(0.1)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("goes_below_zero", "gives -0.8 in step 9 of 10; it must give a finite number >= 0"),
        ("of_infinity", "gives inf in step 0 of 10; it must give a finite number >= 0"),
        ("of_text", "gives '1' in step 0 of 10; it must give a finite number >= 0"),
        (
            "without_steps",
            "cannot be called with (step, number of steps): too many positional",
        ),
        ("nothing", "cannot be imported"),
        ("math", "cannot be called with (step, number of steps): "),
    ],
)
def test_a_wrong_schedule_is_one_line(name, message):
    with pytest.raises(ConfigError) as refusal:
        check_schedule(10, ScheduleConfig(name=f"{__name__}:{name}"))
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(f"schedule.name = '{__name__}:{name}': ")
