"""What a run makes of a task: found by its name, and made under the seed."""

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import reading_tasks
from lockstep.config import Config, DataConfig, RunConfig, TaskConfig
from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import Task
from lockstep.trainer import find_task, make_parts, with_task
from runs import fresh_ranks

INPUTS = torch.arange(8.0)[:, None]


def task_of(**parts):
    data = TensorDataset(INPUTS, 2 * INPUTS)
    return Task(
        **{"name": "lines", "model": lambda: nn.Linear(1, 1), "train": data, "loss": nn.MSELoss()} | parts
    )


def parts_of(task, seed=0):
    return make_parts(with_task(Config(seed=seed), task), task, fresh_ranks())


def test_a_model_and_data_are_made_under_the_seed_of_the_run():
    def draws():
        return TensorDataset(torch.rand(8, 1), torch.rand(8, 1))

    task = task_of(train=draws)
    one, again, other = (parts_of(task, seed) for seed in (3, 3, 4))
    weights = [weights_sha256(parts.model.state_dict()) for parts in (one, again, other)]
    assert weights[0] == weights[1] != weights[2]
    assert one.data == again.data != other.data
    assert one.initial_weights == ""


def test_an_instance_keeps_its_weights_and_they_are_known_by_their_digest():
    model = nn.Linear(1, 1)
    parts = parts_of(task_of(model=model))
    assert parts.model is model
    assert parts.initial_weights == weights_sha256(model.state_dict())


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module with functions that should return tasks."""
    (tmp_path / "my_tasks.py").write_text(
        "from torch import nn\n"
        "from lockstep.task import Task\n"
        "def lines(slope: float = 2.0):\n"
        "    return Task(name=f'slope-{slope}', model=nn.Linear, train=[(0.0, slope)], loss=nn.MSELoss())\n"
        "def nothing():\n"
        "    return None\n"
        "NUMBER = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield "my_tasks"
    sys.modules.pop("my_tasks", None)


def test_a_task_is_found_by_its_reference_with_its_arguments_and_its_source(module):
    config = Config(task=TaskConfig(name=f"{module}:lines", args={"slope": 3.0}))
    assert with_task(Config(), f"{module}:lines").task.name == with_task(config, None).task.name
    found, task = find_task(config, None)
    assert task.name == "slope-3.0"
    assert found.task.source == "my_tasks.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "my_tasks:nothing",
            r"task\.name = 'my_tasks:nothing': is not a function that returns a lockstep\.Task",
        ),
        (
            "my_tasks:NUMBER",
            r"task\.name = 'my_tasks:NUMBER': is not a function that returns a lockstep\.Task",
        ),
        ("made-in-a-script", r"task\.name = 'made-in-a-script': was made in .*; pass it to lockstep\.train"),
    ],
)
def test_what_is_no_task_is_refused(module, name, message):
    with pytest.raises(ConfigError, match=message):
        find_task(Config(task=TaskConfig(name=name)), None)


def test_a_config_may_name_the_task_that_is_given_and_no_other():
    task = task_of()
    assert with_task(Config(task=TaskConfig(name="lines")), task).task.name == "lines"
    with pytest.raises(ConfigError, match=r"task\.name = 'other': must be empty or 'lines', the task"):
        with_task(Config(task=TaskConfig(name="other")), task)


def test_without_a_task_digits_are_learnt():
    config = Config(data=DataConfig(name="synthetic", num_train=600), run=RunConfig(name="run"))
    found, task = find_task(with_task(config, None), None)
    assert found == config
    assert (task.name, task.headline, task.higher_is_better) == ("synthetic", "accuracy", True)
    assert task.classes == tuple("0123456789")


def test_data_that_does_not_repeat_is_refused_or_told_and_has_no_digest():
    task = reading_tasks.of_its_own()
    rule = r"task\.train: sample 0 differs between two reads from equal seeds, in input\['image'\]; draw from"
    with pytest.raises(ConfigError, match=rule):
        parts_of(task)
    parts = make_parts(with_task(Config(reduction="fast"), task), task, fresh_ranks())
    assert len(parts.warnings) == 2
    assert parts.warnings[0].startswith("task.train: sample 0 differs between two reads from equal seeds, in")
    assert parts.warnings[0].endswith("so this run cannot be repeated")
    assert parts.data is not None
    assert parts.data["sha256"] == ""


def test_data_that_cannot_be_batched_or_has_other_labels_is_refused_before_training():
    mixed = [(torch.ones(1 + index % 2), index) for index in range(8)]
    rule = r"task\.train: samples 0 and \d have different shapes, \[input, target\] = \[\(1,\), int\] and "
    with pytest.raises(ConfigError, match=rule):
        parts_of(task_of(train=mixed))
    labelled = [(torch.ones(1), index) for index in range(8)]
    rule = r"task\.train\[3\] target = 3: must be an integer from 0 to 2, as task\.classes has 3 names"
    with pytest.raises(ConfigError, match=rule):
        parts_of(task_of(train=labelled, classes=("a", "b", "c")))
