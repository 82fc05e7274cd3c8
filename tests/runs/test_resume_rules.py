import yaml

from lockstep.config import Config, OptimizerConfig, as_dict, leaves, to_yaml
from lockstep.runs.resume_rules import MAY_CHANGE, differences, identity


def test_what_may_change_exists():
    assert set(MAY_CHANGE) <= set(leaves(Config()))
    assert not set(MAY_CHANGE) & set(identity(Config()))


def test_differences_are_by_leaf():
    config = Config(optimizer=OptimizerConfig(groups={"cnn": 0.1}, betas=(0.7, 0.9)))
    saved = yaml.safe_load(to_yaml(config))
    assert differences(config, saved) == {}
    assert differences(Config(seed=3, optimizer=config.optimizer), saved) == {"seed": (3, 0)}


def test_a_leaf_that_an_older_file_lacks_was_at_its_default():
    saved = as_dict(Config())
    del saved["loss"]["label_smoothing"]
    assert differences(Config(), saved) == {}
