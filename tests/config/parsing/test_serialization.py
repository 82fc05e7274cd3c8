import yaml

from lockstep.config import Config, OptimizerConfig, as_dict, leaves, to_yaml


def test_yaml_holds_the_whole_tree():
    config = Config(optimizer=OptimizerConfig(groups={"cnn": 0.1}, betas=(0.7, 0.9)))
    saved = yaml.safe_load(to_yaml(config))
    assert saved == as_dict(config)
    assert saved["optimizer"]["betas"] == [0.7, 0.9]


def test_leaves_go_by_dotted_names():
    by_name = leaves(Config())
    assert by_name["seed"] == 0
    assert by_name["optimizer.betas"] == (0.9, 0.999)
    assert "optimizer" not in by_name
