"""What a task may be made of."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lockstep.data import MicroBatch
from lockstep.errors import ConfigError, DataError
from lockstep.task import Task, call_model, compute_loss, is_instance, training_forward


def mean_error(outputs, targets):
    return (outputs - targets).abs()


TASK = Task(name="lines", model=nn.Linear(1, 1), train=[(0.0, 1.0)], loss=nn.MSELoss())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, r"task\.name = 'a/b': must be a name without '/' and ':'"),
        ({"name": ".."}, r"task\.name = '\.\.': must be a name"),
        ({"name": ""}, r"task\.name = '': must be a name"),
        ({"model": "resnet"}, r"task\.model = 'str': must be an instance, or a function that makes one"),
        ({"train": 5}, r"task\.train = 'int': must be an instance, or a function that makes one"),
        ({"loss": "mse"}, r"task\.loss = 'str': must be a function"),
        (
            {"metrics": {"f1": 0.5}},
            r"task\.metrics\[f1\] = 'float': must be a function of outputs and targets",
        ),
        ({"metrics": {"loss": mean_error}}, r"task\.metrics = 'loss': must be a Python name that no other"),
        ({"headline": "f1"}, r"task\.headline = 'f1': must be one of loss$"),
        ({"metrics": {"mae": mean_error}, "headline": "f1"}, r"'f1': must be one of loss, mae$"),
    ],
)
def test_what_cannot_be_learnt_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TASK, **changes)


@pytest.mark.parametrize(
    ("part", "is_one"),
    [
        (nn.Linear(1, 1), True),  # callable, but no function that makes a model
        (nn.Linear, False),
        (lambda: nn.Linear(1, 1), False),
        ([(0.0, 1.0)], True),
        (torch.utils.data.TensorDataset(torch.ones(2)), True),
        (torch.utils.data.TensorDataset, False),
    ],
)
def test_instances_are_told_from_what_makes_them(part, is_one):
    assert is_instance(part) == is_one


def test_a_dict_of_inputs_becomes_keyword_arguments():
    assert call_model(lambda a, b: (a, b), {"b": 2, "a": 1}) == (1, 2)
    assert call_model(lambda inputs: inputs, (1, 2)) == (1, 2)


def test_a_training_forward_augments_inputs_and_targets():
    task = replace(TASK, augment=lambda inputs, targets: (inputs + 1, targets * 10))
    batch = MicroBatch(
        inputs=torch.ones(2),
        targets=torch.ones(2),
        ids=torch.arange(2),
        step=0,
        slot=0,
        weight=0.5,
        is_last=True,
    )
    outputs, targets = training_forward(task, lambda inputs: inputs * 3, batch)
    assert (outputs.tolist(), targets.tolist()) == ([6, 6], [10, 10])
    outputs, targets = training_forward(TASK, lambda inputs: inputs * 3, batch)
    assert (outputs.tolist(), targets.tolist()) == ([3, 3], [1, 1])


def test_a_class_without_an_output_is_told_in_one_line():
    task = replace(TASK, loss=nn.CrossEntropyLoss())
    outputs, targets, ids = torch.zeros(2, 3), torch.tensor([0, 7]), torch.tensor([41, 42])
    with pytest.raises(
        DataError, match=r"^task\.loss: sample 42 has the target 7, but the model has no such"
    ):
        compute_loss(task, outputs, targets, ids)
    with pytest.raises(DataError, match=r"^task\.loss: a sample has the target 7, but the model has no such"):
        compute_loss(task, outputs, targets)


def test_an_index_error_of_a_users_loss_stays_what_it_is():
    task = replace(TASK, loss=lambda outputs, targets: [][0])
    with pytest.raises(IndexError, match="list index out of range"):
        compute_loss(task, None, None)
