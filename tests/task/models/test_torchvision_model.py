import pytest
import torch
from torchvision import models

from lockstep.config import ModelConfig
from lockstep.errors import ConfigError
from lockstep.task import ImageShape, build_model


def test_a_classifier_has_torchvisions_names_and_takes_grey_images():
    model = build_model(ModelConfig(name="torchvision:resnet18"), seed=0)
    assert list(model.state_dict()) == list(models.resnet18(num_classes=10).state_dict())
    model.eval()
    grey = torch.rand(2, 1, 28, 28)
    assert torch.equal(model(grey), model(grey.repeat(1, 3, 1, 1)))


def test_its_weights_follow_the_seed_and_its_classes_the_data():
    shape = ImageShape(channels=3, size=32, num_classes=7)
    config = ModelConfig(name="torchvision:squeezenet1_1", args={"dropout": 0.25})
    one, same, other = (build_model(config, seed, shape) for seed in (1, 1, 2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(one.features[0].weight, other.features[0].weight)
    assert one.classifier[0].p == 0.25
    assert one(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("resnet81", {}, "is not a classifier of torchvision; perhaps you meant 'torchvision:resnet18'"),
        ("nothing", {}, "is not a classifier of torchvision; see torchvision.models.list_models()"),
        ("resnet18", {"group": 2}, "model.args.group = 2: is not an argument of ResNet; it takes zero_init_"),
        ("resnet18", {"num_classes": 2}, "model.args.num_classes = 2: is passed by Lockstep itself"),
        ("resnet18", {"weights": "DEFAULT"}, "model.args.weights = 'DEFAULT': is passed by Lockstep itself"),
        (
            "resnet18",
            {"groups": 2},
            "do not fit torchvision:resnet18 (BasicBlock only supports groups=1",
        ),
        ("resnet18", {"layers": [1]}, "model.args = {'layers': [1]}: do not fit torchvision:resnet18 ("),
        ("googlenet", {}, "model.args.aux_logits = True: its training forward must return logits alone"),
        ("alexnet", {}, "cannot take images of shape (2, 1, 28, 28) (alexnet.py line"),
        ("vit_b_16", {"num_layers": 1}, "model.args = {'num_layers': 1}: do not fit torchvision:vit_b_16 ("),
    ],
)
def test_what_does_not_fit_is_one_line(name, args, message):
    with pytest.raises(ConfigError) as refusal:
        build_model(ModelConfig(name=f"torchvision:{name}", args=args), seed=0)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_five_channels_are_refused():
    with pytest.raises(ConfigError, match="takes images with 1 or 3 channels, and these have 5"):
        build_model(ModelConfig(name="torchvision:resnet18"), seed=0, shape=ImageShape(channels=5))
