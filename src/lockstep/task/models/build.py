"""The networks by name, and their construction from a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn

from lockstep.config import ModelConfig, check_arguments
from lockstep.data import restored_generators, seed_generators
from lockstep.errors import require
from lockstep.task.models.check_model import try_out
from lockstep.task.models.cnn import Cnn, DeepCnn, StridedCnn
from lockstep.task.models.image_shape import ImageShape
from lockstep.task.models.mlp import Mlp
from lockstep.task.models.rnn import CnnGru, OrthogonalRnn, Rnn
from lockstep.task.models.torchvision_model import find_torchvision_model, make_torchvision_model
from lockstep.task.models.users_model import find_users_model, make_users_model

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": Cnn,
    "cnn-strided": StridedCnn,
    "cnn-deep": DeepCnn,
    "cnn-gru": CnnGru,
    "mlp": Mlp,
    "rnn": Rnn,
    "rnn-orthogonal": OrthogonalRnn,
}
"""Name → the network, made from `dropout`, and `channels`, `size` and `num_classes` of the images."""
SMALLEST_SIZES = {"cnn": 12, "cnn-strided": 20, "cnn-deep": 4, "cnn-gru": 4}
"""Name → the smallest images, in pixels, that its convolutions and pooling leave something of."""


def build_model(config: ModelConfig, seed: int, shape: ImageShape | None = None) -> nn.Module:
    """A network whose initial weights are a pure function of the seed. Leaves all generators as they were.

    Args:
        config: the settings.
        seed: of the run.
        shape: what the network must fit; by default MNIST's.

    Raises:
        ConfigError: the network cannot be found or trained, or does not take model.args or the images.
    """
    shape = shape or ImageShape()
    if config.name in MODELS:
        return _built_in(config, seed, shape)
    cpu = torch.device("cpu")
    with restored_generators(cpu):
        seed_generators(cpu, seed, "model")
        is_torchvisions = config.name.startswith("torchvision:")
        model = make_torchvision_model(config, shape) if is_torchvisions else make_users_model(config)
        try_out(model, config.name, shape)
    return model


def check_model_name(config: ModelConfig) -> None:
    """Checks what can be known of a model before its images are.

    Raises:
        ConfigError: there is no such model, or it does not take model.args.
    """
    if config.name.startswith("torchvision:"):
        find_torchvision_model(config)
    elif config.name not in MODELS:
        find_users_model(config)


def _built_in(config: ModelConfig, seed: int, shape: ImageShape) -> nn.Module:
    make = MODELS[config.name]
    given = {"dropout": config.dropout, **asdict(shape)}
    check_arguments("model.args", make, config.args, reserved=given)
    smallest = SMALLEST_SIZES.get(config.name, 1)
    rule = (
        f"needs images of at least {smallest} x {smallest} pixels, and these have {shape.size} x {shape.size}"
    )
    require(shape.size >= smallest, "model.name", config.name, f"{rule}; choose another, such as mlp")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices' generators too
        return make(**given, **config.args)
