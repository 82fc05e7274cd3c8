import pytest
import torch
from torch import nn

from lockstep.config import ModelConfig
from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import MODELS, ImageShape, build_model
from lockstep.task.models.build import SMALLEST_SIZES

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
OF_A_BATCH = {"cnn-strided"}
"""Models whose outputs in training depend on the other samples of the micro-batch."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_a_function_of_the_seed_and_maps_images_to_logits(name):
    before = torch.random.get_rng_state()
    one, same, other = (build_model(ModelConfig(name=name), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights_sha256(one.state_dict()) == weights_sha256(same.state_dict())
    assert weights_sha256(one.state_dict()) != weights_sha256(other.state_dict())
    assert one(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert any(isinstance(module, BATCH_NORMS) for module in one.modules()) == (name in OF_A_BATCH)


def test_a_users_own_model_is_imported():
    model = build_model(ModelConfig(name="lockstep.task.models.mlp:Mlp"), seed=0)
    assert type(model).__name__ == "Mlp"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_built_in_model_fits_the_images(name, channels):
    smallest = SMALLEST_SIZES.get(name, 1)
    for size in (smallest, 33):
        shape = ImageShape(channels=channels, size=size, num_classes=7)
        assert build_model(ModelConfig(name=name), 0, shape)(torch.zeros(3, channels, size, size)).shape == (
            3,
            7,
        )
    if smallest > 1:
        with pytest.raises(ConfigError, match=f"needs images of at least {smallest} x {smallest} pixels"):
            build_model(ModelConfig(name=name), 0, ImageShape(size=smallest - 1))
