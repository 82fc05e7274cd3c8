import pytest
import torch
from torch import nn

from lockstep.config import ModelConfig
from lockstep.errors import ConfigError
from lockstep.models import MODELS, KeyedDropout, build_model
from lockstep.runs.checkpoint import weights_sha256

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_a_function_of_the_seed_and_maps_images_to_logits(name):
    before = torch.random.get_rng_state()
    one, same, other = (build_model(ModelConfig(name=name), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights_sha256(one.state_dict()) == weights_sha256(same.state_dict())
    assert weights_sha256(one.state_dict()) != weights_sha256(other.state_dict())
    assert one(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert not any(isinstance(module, BATCH_NORMS) for module in one.modules())


def test_a_users_own_model_is_imported():
    model = build_model(ModelConfig(name="lockstep.models.mlp:Mlp"), seed=0)
    assert type(model).__name__ == "Mlp"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("resnet", "must be one of cnn, "),
        (":Net", "cannot be imported"),
        ("no_such_module:Net", "cannot be imported"),
        ("lockstep.models.build:Nothing", "cannot be imported"),
        ("lockstep.models.build:MODELS", "is no class of torch.nn.Module"),
        ("lockstep.config:Config", "is no class of torch.nn.Module"),
        ("user_models:NeedsASize", r"its constructor must take no arguments \(missing .* 'size'\)"),
        ("user_models:TwoDtypes", "must be of one dtype, and are of torch.float32, torch.float64"),
        ("user_models:Frozen", "must be of one dtype, and are of none"),
        ("user_models:Features", r"makes \(2, 784\) of 2 images; it must make logits \(2, 10\)"),
        ("user_models:Pair", "makes tuple of 2 images"),
    ],
)
def test_a_wrong_model_is_refused(name, rule):
    with pytest.raises(ConfigError, match=rf"^model\.name = '{name}': .*{rule}"):
        build_model(ModelConfig(name=name), seed=0)


def test_keyed_dropout_of_pictures_is_refused():
    with pytest.raises(
        ConfigError, match=r"KeyedDropout's input = \(2, 1, 28, 28\): must be \(batch, units\)"
    ):
        KeyedDropout(0.5).eval()(torch.zeros(2, 1, 28, 28))
