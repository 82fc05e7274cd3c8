"""Whether a start may resume an old run."""

import pytest
import yaml

from lockstep.config import Config, DataConfig, OptimizerConfig, TrainConfig, as_dict, leaves, to_yaml
from lockstep.errors import ConfigError
from lockstep.runs import changed_settings, check_may_resume
from lockstep.runs.resume.naming import derived_name
from lockstep.runs.resume.resume_rules import MAY_CHANGE, differences, identity
from run_folders import SUMMARY, make_record, make_run
from runs import small_config


def test_what_may_change_exists():
    assert set(MAY_CHANGE) <= set(leaves(Config()))
    assert not set(MAY_CHANGE) & set(identity(Config()))


def test_a_setting_that_an_older_file_lacks_was_at_its_default():
    saved = as_dict(Config())
    del saved["loss"]["label_smoothing"]
    assert differences(Config(), saved) == {}


def test_a_new_folder_may_be_used(tmp_path):
    assert check_may_resume(Config(), tmp_path / "new") is None


def test_the_same_run_may_resume_with_other_intervals(tmp_path):
    make_run(tmp_path / "run", [make_record(1)])
    config = small_config(tmp_path, train=TrainConfig(epochs=1, log_every=1, checkpoint_every=3))
    assert check_may_resume(config, tmp_path / "run") is None


def test_a_finished_run_gives_its_summary(tmp_path):
    make_run(tmp_path / "run", [make_record(1)], SUMMARY)
    assert check_may_resume(small_config(tmp_path), tmp_path / "run") == SUMMARY


def test_another_run_is_refused_with_both_values(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(small_config(optimizer=OptimizerConfig(lr=0.5))))
    rule = r"optimizer\.lr = 0\.25: run '.*run' was started with 0\.5; choose another run\.name, or leave"
    with pytest.raises(ConfigError, match=rule):
        check_may_resume(small_config(optimizer=OptimizerConfig(lr=0.25)), folder)


def test_differences_are_by_leaf():
    config = Config(optimizer=OptimizerConfig(groups={"cnn": 0.1}, betas=(0.7, 0.9)))
    saved = yaml.safe_load(to_yaml(config))
    assert differences(config, saved) == {}
    assert differences(Config(seed=3, optimizer=config.optimizer), saved) == {"seed": (3, 0)}


def test_the_order_of_transforms_counts():
    def config(*transforms):
        return Config(data=DataConfig(transforms={name: {} for name in transforms}, num_workers=2))

    saved = yaml.safe_load(to_yaml(config("RandomErasing", "RandomHorizontalFlip")))
    assert differences(config("RandomErasing", "RandomHorizontalFlip"), saved) == {}
    assert list(differences(config("RandomHorizontalFlip", "RandomErasing"), saved)) == ["data.transforms"]


def test_an_unfinished_run_of_another_format_is_refused(tmp_path):
    for name, summary in (("old", None), ("finished", SUMMARY)):
        make_run(tmp_path / name, [make_record(1)], summary)
        (tmp_path / name / "starts.jsonl").write_text('{"step": 0, "world_size": 2}\n')
    assert check_may_resume(small_config(tmp_path), tmp_path / "finished") == SUMMARY
    with pytest.raises(
        ConfigError, match=r"run '.*old' was made by a version .* \(format 1, this version: 3\); "
    ):
        check_may_resume(small_config(tmp_path), tmp_path / "old")


def test_with_patience_the_interval_of_evaluations_belongs_to_the_run(tmp_path):
    def config(**train):
        return small_config(tmp_path, train=TrainConfig(**train))

    often, seldom = config(eval_every=5), config(eval_every=10)
    assert derived_name(often) == derived_name(seldom)
    assert not differences(often, as_dict(seldom))
    often, seldom = config(eval_every=5, patience=2), config(eval_every=10, patience=2)
    assert derived_name(often) != derived_name(seldom)
    assert differences(often, as_dict(seldom)) == {"train.eval_every": (5, 10)}


def test_settings_at_their_defaults_are_not_changed_ones(tmp_path):
    for precision, changed in (("no", {}), ("bf16", {"precision": "bf16"})):  # what 'auto' has become
        (tmp_path / "config.yaml").write_text(to_yaml(Config(precision=precision)))
        assert changed_settings(tmp_path) == changed
