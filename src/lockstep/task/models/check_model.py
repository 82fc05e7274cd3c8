"""Tries a model out on two images, so that one that does not fit is refused before any data is read."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lockstep.errors import first_line, refuse, require
from lockstep.task.models.dtypes import dtype_remedy
from lockstep.task.models.evaluation_mode import evaluating
from lockstep.task.models.image_shape import ImageShape


def try_out(model: nn.Module, name: str, shape: ImageShape) -> None:
    """Checks that a model maps images to logits. Lazy modules get their parameters here.

    The forward runs in evaluation mode, so that it leaves the statistics of BatchNorm alone.

    Raises:
        ConfigError: it cannot take the images, or returns something else.
    """
    device = next((parameter.device for parameter in model.parameters()), None)
    images = torch.zeros(2, shape.channels, shape.size, shape.size, device=device)
    try:
        with evaluating(model), torch.no_grad():
            logits = model(images)
    except Exception as error:
        remedy = dtype_remedy(model) or "adapt its sizes"
        rule = f"cannot take images of shape {tuple(images.shape)} ({first_line(error)}); {remedy}"
        raise refuse("model.name", name, rule) from error
    result = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    rule = f"returns {result} for 2 images; it must return logits (2, {shape.num_classes})"
    require(result == (2, shape.num_classes), "model.name", name, rule)
    for key, value in model.state_dict().items():
        rule = f"{key!r} is lazy, and the forward does not use it, so it has no shape; remove it or use it"
        require(not is_lazy(value), "model.name", name, rule)
