"""Which parameters a forward uses."""

import pytest
import torch
from torch import nn

from lockstep.engine.parameter_use import ParameterUse, check_never_used
from lockstep.errors import RunStopped

COUNTS = {"stem": 8, "block.a": 3, "block.b": 7, "unused": 0, "experts.0": 0}


def test_parameters_are_sorted_by_how_often_they_had_a_gradient():
    use = ParameterUse.from_counts(COUNTS, 8, ())
    assert use == ParameterUse(sometimes=("block.a", "block.b"), never=("unused", "experts.0"))


def test_the_user_may_say_that_a_parameter_is_sometimes_used():
    use = ParameterUse.from_counts(COUNTS, 8, ("experts.*", "stem"))
    assert use == ParameterUse(sometimes=("stem", "block.a", "block.b", "experts.0"), never=("unused",))


def test_a_gradient_where_none_was_expected_ends_the_run_by_name():
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    use = ParameterUse(never=("b.bias",))
    model["a"](torch.ones(1)).backward()
    check_never_used(model, use, step=5)
    model["b"](torch.ones(1)).backward()
    with pytest.raises(
        RunStopped, match=r"step 5: parameter 'b\.bias' got a gradient.*--model\.sometimes-used b\.bias"
    ):
        check_never_used(model, use, step=5)
