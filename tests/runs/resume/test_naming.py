"""The name of a run that was not given one."""

from pathlib import Path

from lockstep.config import Config, ModelConfig, OptimizerConfig, RunConfig, TaskConfig, TrainConfig
from lockstep.runs import run_path
from lockstep.runs.resume.naming import derived_name


def test_derived_name_follows_what_defines_the_run():
    base = Config()
    assert derived_name(base) == derived_name(Config(run=RunConfig(dir="elsewhere")))
    assert derived_name(base) == derived_name(Config(train=TrainConfig(log_every=7)))
    assert derived_name(base) == derived_name(Config(precision="no"))
    assert derived_name(base) != derived_name(Config(precision="bf16"))
    assert derived_name(base) != derived_name(Config(seed=1))
    assert derived_name(base) != derived_name(Config(optimizer=OptimizerConfig(groups={"gru": 0.1})))


def test_a_setting_at_its_default_does_not_count():
    """So that a version with more settings derives the same names, such as the one that the pages show."""
    assert derived_name(Config()) == "mnist-cnn-ca3d163b"


def test_a_task_gives_its_name_to_the_run():
    assert (
        derived_name(Config(task=TaskConfig(name="made-in-a-script"))).rpartition("-")[0]
        == "made-in-a-script"
    )
    assert derived_name(Config(task=TaskConfig(name="package.module:lines"))).rpartition("-")[0] == "module"


def test_a_users_own_model_gives_its_class_to_the_name():
    name = derived_name(Config(model=ModelConfig(name="package.module:MyNet")))
    assert name.rpartition("-")[0] == "mnist-MyNet"


def test_a_stated_name_is_taken_as_it_is():
    assert run_path(Config(run=RunConfig(dir="there", name="mine"))) == Path("there/mine")
    assert run_path(Config(run=RunConfig(dir="there"))).name == derived_name(Config())
