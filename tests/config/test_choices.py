"""Every name that a config accepts has an entry in a table, and every other name is refused."""

import dataclasses
import multiprocessing
from typing import get_type_hints

import pytest
import torch

from lockstep.config import (
    OPTIMIZER_SETTINGS,
    TORCH_OPTIMIZERS,
    Config,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from lockstep.config.choices import choices_of, nearest
from lockstep.config.settings.data import DIGIT_SETS, GENERATED_DATA
from lockstep.config.settings.optimizer import UNFIT
from lockstep.config.settings.recipe import BUILT_IN_MODELS, LOSS_SETTINGS, SCHEDULE_SETTINGS
from lockstep.data import DATA_SOURCES
from lockstep.data.sources.idx_source import FileSource
from lockstep.engine import OPTIMIZERS
from lockstep.engine.optimizer.schedule import SCHEDULES
from lockstep.engine.reduction.exchange import REDUCTIONS
from lockstep.errors import ConfigError
from lockstep.task import MODELS
from lockstep.task.losses import LOSSES
from lockstep.tracking.wandb_mode import MODES


def all_choices():
    """(section, field) → its names, for each field with a list of names. The root section is called ""."""
    hints = get_type_hints(Config).items()
    sections = {"": Config, **{name: kind for name, kind in hints if dataclasses.is_dataclass(kind)}}
    return {
        (name, field): names for name, kind in sections.items() for field, names in choices_of(kind).items()
    }


TABLES = {
    ("data", "storage"): ("resident", "streamed"),
    ("data", "worker_context"): multiprocessing.get_all_start_methods(),
    ("", "reduction"): REDUCTIONS,
    ("tracking", "mode"): ("auto", *MODES),
    ("", "engine"): ("auto", "eager", "captured"),
    ("", "precision"): ("auto", "no", "bf16", "fp16"),  # Accelerate's own names; it has no table
}


def test_each_list_of_names_is_its_table():
    assert {key: sorted(names) for key, names in all_choices().items()} == {
        key: sorted(table) for key, table in TABLES.items()
    }
    assert list(DATA_SOURCES) == list(DIGIT_SETS)
    assert list(MODELS) == list(BUILT_IN_MODELS)
    assert list(OPTIMIZERS) == list(TORCH_OPTIMIZERS)


def test_the_list_of_optimizers_is_torchs():
    kinds = [each for each in vars(torch.optim).values() if isinstance(each, type)]
    names = {each.__name__.lower() for each in kinds if each is not torch.optim.Optimizer}
    assert names == {*TORCH_OPTIMIZERS, *UNFIT}


def test_what_the_config_says_of_the_names_is_so():
    assert [name for name, source in DATA_SOURCES.items() if not isinstance(source, FileSource)] == list(
        GENERATED_DATA
    )
    assert LOSS_SETTINGS.keys() == LOSSES.keys()
    assert OPTIMIZER_SETTINGS.keys() <= OPTIMIZERS.keys()
    assert SCHEDULE_SETTINGS.keys() == SCHEDULES.keys()


@pytest.mark.parametrize(("section", "field"), all_choices())
def test_a_name_that_is_not_listed_is_refused(section, field):
    kind = get_type_hints(Config)[section] if section else Config
    dotted = f"{section}.{field}" if section else field
    with pytest.raises(ConfigError, match=rf"^{dotted} = 'none-such': must be one of "):
        kind(**{field: "none-such"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ScheduleConfig(name="polynomial"),
            "schedule.name = 'polynomial': must be one of constant, one-cycle, cosine, linear, "
            "or your own as 'package.module:function'",
        ),
        (
            lambda: LossConfig(name="focal"),
            "loss.name = 'focal': must be one of cross-entropy, mse, or "
            "'torch.nn:NAME', or your own as 'package.module:function'",
        ),
        (
            lambda: OptimizerConfig(name="adamm"),
            "optimizer.name = 'adamm': must be one of sgd, adam, adamw, adadelta, adafactor, adagrad, "
            "adamax, asgd, muon, nadam, radam, rmsprop, rprop, or your own as 'package.module:Class'; "
            "perhaps you meant 'adam'",
        ),
        (
            lambda: ModelConfig(name="ccn"),
            "model.name = 'ccn': must be one of cnn, cnn-strided, cnn-deep, cnn-gru, mlp, rnn, "
            "rnn-orthogonal, or 'torchvision:NAME', or your own as 'package.module:Class'; "
            "perhaps you meant 'cnn'",
        ),
    ],
)
def test_the_message_names_the_valid_ones_and_the_nearest(make, message):
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: OptimizerConfig(name="sgd", betas=(0.8, 0.9)),
            "optimizer.betas = (0.8, 0.9): is for optimizer.name = 'adam' or 'adamw' or 'adamax' or "
            "'nadam' or 'radam'; with 'sgd' leave it at (0.9, 0.999); others take theirs in optimizer.args",
        ),
        (
            lambda: LossConfig(name="mse", label_smoothing=0.1),
            "loss.label_smoothing = 0.1: is for loss.name = 'cross-entropy'; with 'mse' leave it at 0.0",
        ),
    ],
)
def test_a_setting_that_the_choice_does_not_use_is_refused(make, message):
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == message


def test_the_nearest_name_is_none_that_looks_different():
    assert nearest("minst", DATA_SOURCES) == "mnist"
    assert nearest("polynomial", SCHEDULES) == ""
