import pytest

from lockstep.config import ModelConfig
from lockstep.errors import ConfigError
from lockstep.task import build_model


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (":Net", "cannot be imported"),
        ("no_such_module:Net", "cannot be imported"),
        ("lockstep.task.models.build:Nothing", "cannot be imported"),
        ("lockstep.task.models.build:MODELS", "is not a subclass of torch.nn.Module"),
        ("lockstep.config:Config", "is not a subclass of torch.nn.Module"),
        ("user_models:NeedsASize", r"its constructor must not need arguments \(missing .* 'size'\)"),
        ("user_models:Synced", "'norm' is a SyncBatchNorm, whose statistics depend on the ranks"),
        (
            "user_models:ExtraState",
            "'_extra_state' in its state_dict is a dict; a checkpoint",
        ),
        ("user_models:Frozen", "has no parameters to train"),
        ("user_models:Features", r"returns \(2, 784\) for 2 images; it must return logits \(2, 10\)"),
        ("user_models:Pair", "returns tuple for 2 images"),
    ],
)
def test_a_wrong_model_is_refused(name, rule):
    with pytest.raises(ConfigError, match=rf"^model\.name = '{name}': .*{rule}"):
        build_model(ModelConfig(name=name), seed=0)
