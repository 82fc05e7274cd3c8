import dataclasses
import inspect
import re
import typing

import pytest
import yaml

from lockstep.config import (
    BatchConfig,
    Config,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrackingConfig,
    TrainConfig,
    as_dict,
    leaves,
    to_yaml,
)
from lockstep.config import settings as config_module
from lockstep.errors import ConfigError
from lockstep.runs.resume_rules import differences


def sections():
    return [
        entry
        for entry in vars(config_module).values()
        if isinstance(entry, type) and dataclasses.is_dataclass(entry)
    ]


def is_dataclass_field(section, entry):
    """Whether a field is a section of the tree, whose help is its class's docstring."""
    return dataclasses.is_dataclass(typing.get_type_hints(section)[entry.name])


def test_every_field_has_help_and_the_tree_stays_small():
    for section in sections():
        source = inspect.getsource(section)
        assert section.__doc__
        for entry in dataclasses.fields(section):
            docstring = re.search(rf'    {entry.name}: .*\n    """\S', source)
            assert docstring or is_dataclass_field(section, entry), (
                f"{section.__name__}.{entry.name} has no help"
            )
    assert len(leaves(Config())) <= 50


def test_all_sections_are_frozen_and_keyword_only():
    for section in sections():
        assert section.__dataclass_params__.frozen
        assert all(entry.kw_only for entry in dataclasses.fields(section))


@pytest.mark.parametrize(
    ("section", "values", "field"),
    [
        (BatchConfig, {"global_size": 0}, "batch.global_size = 0"),
        (BatchConfig, {"global_size": 100}, "batch.global_size = 100"),
        (TrainConfig, {"epochs": 0}, "train.epochs = 0"),
        (TrainConfig, {"log_every": 0}, "train.log_every = 0"),
        (OptimizerConfig, {"lr": -1.0}, "optimizer.lr = -1.0"),
        (OptimizerConfig, {"lr": float("nan")}, "optimizer.lr = nan"),
        (OptimizerConfig, {"max_grad_norm": 0.0}, "optimizer.max_grad_norm = 0.0"),
        (OptimizerConfig, {"groups": {"cnn": 0.0}}, "optimizer.groups[cnn] = 0.0"),
        (OptimizerConfig, {"groups": {"cnn": 0.1}, "lr": 0.1}, "optimizer.lr = 0.1"),
        (OptimizerConfig, {"name": "sgd", "betas": (0.8, 0.9)}, "optimizer.betas = (0.8, 0.9)"),
        (OptimizerConfig, {"momentum": 0.0}, "optimizer.momentum = 0.0"),
        (ScheduleConfig, {"name": "constant", "warmup": 0.1}, "schedule.warmup = 0.1"),
        (RunConfig, {"name": "a/b"}, "run.name = 'a/b'"),
        (Config, {"seed": -1}, "seed = -1"),
        (Config, {"tracking": TrackingConfig(watch=30)}, "tracking.watch = 30"),
    ],
)
def test_a_bad_value_names_field_value_and_rule(section, values, field):
    with pytest.raises(ConfigError) as refusal:
        section(**values)
    assert str(refusal.value).startswith(f"{field}: ")
    assert "\n" not in str(refusal.value)


def test_yaml_holds_the_whole_tree():
    config = Config(optimizer=OptimizerConfig(groups={"cnn": 0.1}, betas=(0.7, 0.9)))
    saved = yaml.safe_load(to_yaml(config))
    assert saved == as_dict(config)
    assert differences(config, saved) == {}
    assert differences(Config(seed=3, optimizer=config.optimizer), saved) == {"seed": (3, 0)}
