from lockstep.config import Config, OptimizerConfig, RunConfig, TrainConfig
from lockstep.runs.naming import derived_name


def test_derived_name_follows_what_defines_the_run():
    base = Config()
    assert derived_name(base) == derived_name(Config(run=RunConfig(dir="elsewhere")))
    assert derived_name(base) == derived_name(Config(train=TrainConfig(log_every=7)))
    assert derived_name(base) == derived_name(Config(precision="no"))
    assert derived_name(base) != derived_name(Config(precision="bf16"))
    assert derived_name(base) != derived_name(Config(seed=1))
    assert derived_name(base) != derived_name(Config(optimizer=OptimizerConfig(groups={"gru": 0.1})))
