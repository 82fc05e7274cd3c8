import pytest
from torch import nn

from lockstep.config import ModelConfig
from lockstep.errors import ConfigError
from lockstep.models import build_model, topology_warnings


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (":Net", "cannot be imported"),
        ("no_such_module:Net", "cannot be imported"),
        ("lockstep.models.build:Nothing", "cannot be imported"),
        ("lockstep.models.build:MODELS", "is not a subclass of torch.nn.Module"),
        ("lockstep.config:Config", "is not a subclass of torch.nn.Module"),
        ("user_models:NeedsASize", r"its constructor must not need arguments \(missing .* 'size'\)"),
        ("user_models:TwoDtypes", "must share one dtype, not torch.float32, torch.float64"),
        ("user_models:Frozen", "has no parameters to train"),
        ("user_models:Features", r"returns \(2, 784\) for 2 images; it must return logits \(2, 10\)"),
        ("user_models:Pair", "returns tuple for 2 images"),
    ],
)
def test_a_wrong_model_is_refused(name, rule):
    with pytest.raises(ConfigError, match=rf"^model\.name = '{name}': .*{rule}"):
        build_model(ModelConfig(name=name), seed=0)


def test_batchnorm_and_plain_dropout_get_a_warning():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.GroupNorm(1, 1))
    warnings = topology_warnings(model)
    assert len(warnings) == 2
    assert "BatchNorm2d" in warnings[0]
    assert "GroupNorm" in warnings[0]
    assert "KeyedDropout" in warnings[1]
