import pytest
import torch
from torch import nn

from lockstep.config import OptimizerConfig
from lockstep.engine import build_optimizer
from lockstep.engine.optimizer.optimizer import set_learning_rate
from lockstep.engine.optimizer.parameter_groups import groups_by_module
from lockstep.errors import ConfigError
from lockstep.task.models.rnn import CnnGru


def names_in_groups(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {group["name"]: [names[each] for each in group["params"]] for group in optimizer.param_groups}


def test_groups_take_their_own_rates_and_freeze_the_rest():
    model = CnnGru()
    optimizer = build_optimizer(model, OptimizerConfig(groups={"gru": 0.1}), fused=False)
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [("gru", 0.1)]
    assert all(parameter.requires_grad for parameter in model.gru.parameters())
    assert not any(parameter.requires_grad for parameter in model.cnn.parameters())


def test_innermost_group_owns_a_parameter():
    model = CnnGru()
    groups = groups_by_module(model, OptimizerConfig(groups={"gru": 0.1, "gru.head": 0.2, "cnn": 0.3}))
    sizes = {group["name"]: len(group["params"]) for group in groups}
    assert sizes == {"gru": 4, "gru.head": 2, "cnn": 4}


def test_rates_scale_together():
    optimizer = build_optimizer(CnnGru(), OptimizerConfig(groups={"cnn": 0.1, "gru": 0.4}), fused=False)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]


def test_unknown_module_is_answered_with_the_valid_ones():
    with pytest.raises(ConfigError, match=r"optimizer\.groups = 'grew'.*cnn, .*gru"):
        build_optimizer(CnnGru(), OptimizerConfig(groups={"grew": 0.1}), fused=False)


def test_a_group_without_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.groups = 'cnn': has no parameters of its own"):
        build_optimizer(
            CnnGru(), OptimizerConfig(groups={"cnn": 0.1, "cnn.conv1": 0.1, "cnn.conv2": 0.1}), fused=False
        )


def test_biases_and_normalization_weights_do_not_decay():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))
    config = OptimizerConfig(
        name="sgd", groups={"0": 0.1, "1": 0.2, "2": 0.3}, weight_decay=0.5, no_decay=True
    )
    optimizer = build_optimizer(model, config, fused=False)
    assert names_in_groups(model, optimizer) == {
        "0": ["0.weight"],
        "0/no_decay": ["0.bias"],
        "1/no_decay": ["1.weight", "1.bias"],
        "2": ["2.weight"],
    }
    settings = [(group["weight_decay"], group["base_lr"]) for group in optimizer.param_groups]
    assert settings == [(0.5, 0.1), (0.0, 0.1), (0.0, 0.2), (0.5, 0.3)]


def test_a_tasks_own_groups_take_any_argument_and_freeze_the_rest():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    groups = [
        {"params": model[0].parameters(), "lr": 0.1, "name": "first", "weight_decay": 0.25},
        {"params": model[1].weight},
    ]
    optimizer = build_optimizer(model, OptimizerConfig(name="adamw"), fused=None, groups=groups)
    assert names_in_groups(model, optimizer) == {"first": ["0.weight", "0.bias"], "group1": ["1.weight"]}
    settings = [(group["lr"], group["base_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert settings == [(0.1, 0.1, 0.25), (0.005, 0.005, 0.0)]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["0.weight", "0.bias", "1.weight"]


MODEL = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("groups", "config", "message"),
    [
        ([{}], {}, "the task's parameter group 0 = []: has no parameters; give it some as 'params'"),
        (
            [{"params": [nn.Parameter(torch.zeros(5))]}],
            {},
            "has a parameter of this shape that is not the",
        ),
        (
            [{"params": [MODEL.bias]}, {"params": [MODEL.bias]}],
            {},
            "group 1 = [2]: has a parameter of this shape that is in 'group0' too",
        ),
        ([{"params": [MODEL.bias], "lr": 0.0}], {}, "group 0: lr = 0.0: must be a finite rate > 0"),
        (
            [{"params": [MODEL.bias], "weigth_decay": 0.1}],
            {},
            "group 0: weigth_decay = 0.1: is not an argument of Adam; perhaps you meant 'weight_decay'",
        ),
        (
            [{"params": [MODEL.bias], "name": "a"}, {"params": [MODEL.weight], "name": "a"}],
            {},
            "group 1: name = 'a': is the name of an earlier group",
        ),
        (
            [{"params": [MODEL.bias]}],
            {"groups": {"": 0.1}},
            "optimizer.groups = {'': 0.1}: is set, and the task has",
        ),
    ],
)
def test_wrong_groups_of_a_task_are_refused(groups, config, message):
    with pytest.raises(ConfigError) as refusal:
        build_optimizer(MODEL, OptimizerConfig(**config), fused=None, groups=groups)
    assert message in str(refusal.value)
