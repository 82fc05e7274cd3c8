"""A classifier of torchvision, by its name there, with untrained weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from torch import Tensor, nn

from lockstep.config import ModelConfig, check_arguments, nearest
from lockstep.errors import refuse, require, short_message
from lockstep.task.models.image_shape import ImageShape


def make_torchvision_model(config: ModelConfig, shape: ImageShape) -> nn.Module:
    """The model of 'torchvision:NAME' for the number of classes, made with model.args.

    All of them take three channels, so grey images are repeated to three before the forward. A hook does it,
    and the names in the state_dict stay torchvision's.

    Raises:
        ConfigError: there is no such classifier, or it does not take these arguments or these channels.
    """
    rule = f"takes images with 1 or 3 channels, and these have {shape.channels}; use a model of your own"
    require(shape.channels in (1, 3), "model.name", config.name, rule)
    builder = find_torchvision_model(config)
    try:
        model = builder(weights=None, num_classes=shape.num_classes, **config.args)
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:  # it asserts sizes too
        rule = f"do not fit {config.name} ({short_message(error)}); change them"
        raise refuse("model.args", config.args, rule) from error
    if shape.channels == 1:
        model.register_forward_pre_hook(_repeat_channel)
    return model


def find_torchvision_model(config: ModelConfig) -> Callable[..., nn.Module]:
    """The function of torchvision that makes the model.

    Raises:
        ConfigError: there is no such classifier, or it does not take these arguments.
    """
    from torchvision import models  # takes a second

    name = config.name.partition(":")[2]
    names = models.list_models(module=models)
    if name not in names:
        near = nearest(name, names)
        hint = f"perhaps you meant 'torchvision:{near}'" if near else "see torchvision.models.list_models()"
        raise refuse("model.name", config.name, f"is not a classifier of torchvision; {hint}")
    builder = models.get_model_builder(name)
    _check(builder, config.args)
    return builder


def _check(builder: Any, arguments: dict[str, Any]) -> None:
    """Checks arguments against the class that a builder makes: the builder itself takes any `**kwargs`."""
    network = get_type_hints(builder)["return"]
    parameters = inspect.signature(network).parameters
    required = {each.name for each in parameters.values() if each.default is each.empty}
    from_builder = required - arguments.keys()  # such as ResNet's block and layers
    reserved = {"weights", "progress", "num_classes", *from_builder}
    check_arguments("model.args", network, arguments, reserved=reserved)
    rule = "its training forward must return logits alone; state --model.args.aux_logits false"
    has_aux = "aux_logits" in parameters and arguments.get("aux_logits", True)
    require(not has_aux, "model.args.aux_logits", True, rule)


def _repeat_channel(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """From grey images (batch, 1, height, width) to (batch, 3, height, width)."""
    return (inputs[0].expand(-1, 3, -1, -1),)
