import dataclasses
import inspect
import re
import typing

import pytest

from lockstep.config import AugmentConfig, Config, DataConfig, RunConfig, TrackingConfig, TrainConfig, leaves
from lockstep.config.settings import settings as config_module
from lockstep.errors import ConfigError


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
    assert len(leaves(Config())) <= 75


def test_all_sections_are_frozen_and_keyword_only():
    for section in sections():
        assert section.__dataclass_params__.frozen
        assert all(entry.kw_only for entry in dataclasses.fields(section))


@pytest.mark.parametrize(
    ("section", "values", "field"),
    [
        (TrainConfig, {"epochs": 0}, "train.epochs = 0"),
        (TrainConfig, {"log_every": 0}, "train.log_every = 0"),
        (RunConfig, {"name": "a/b"}, "run.name = 'a/b'"),
        (DataConfig, {"name": "synthetic", "storage": "streamed"}, "data.storage = 'streamed'"),
        (DataConfig, {"num_workers": -1}, "data.num_workers = -1"),
        (DataConfig, {"worker_context": "spawn"}, "data.worker_context = 'spawn'"),
        (DataConfig, {"name": "foldre"}, "data.name = 'foldre'"),
        (DataConfig, {"image_size": 32}, "data.image_size = 32"),
        (DataConfig, {"name": "folder", "args": {"a": 1}}, "data.args = {'a': 1}"),
        (DataConfig, {"transforms": {"RandomErasing": 3}}, "data.transforms.RandomErasing = 3"),
        (Config, {"augment": AugmentConfig(shift_pixels=15)}, "augment.shift_pixels = 15"),
        (Config, {"seed": -1}, "seed = -1"),
        (Config, {"tracking": TrackingConfig(watch=30)}, "tracking.watch = 30"),
    ],
)
def test_a_bad_value_names_field_value_and_rule(section, values, field):
    with pytest.raises(ConfigError) as refusal:
        section(**values)
    assert str(refusal.value).startswith(f"{field}: ")
    assert "\n" not in str(refusal.value)
