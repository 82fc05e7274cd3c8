"""Tries a model out on two images, so that one that cannot be trained is refused before any data is read."""

from __future__ import annotations

import traceback

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lockstep.errors import refuse, require
from lockstep.task.models.image_shape import ImageShape


def try_out(model: nn.Module, name: str, shape: ImageShape) -> None:
    """Checks that a model maps images to logits and can be trained. Lazy modules get their parameters here.

    The forward runs in evaluation mode, so that it leaves the statistics of BatchNorm alone.

    Raises:
        ConfigError: it cannot take the images, returns something else, or cannot be trained.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next((parameter.device for parameter in model.parameters()), None)
    images = torch.zeros(2, shape.channels, shape.size, shape.size, device=device)
    model.eval()
    try:
        with torch.no_grad():
            logits = model(images)
    except Exception as error:
        rule = f"cannot take images of shape {tuple(images.shape)} ({_first_line(error)}); adapt its sizes"
        raise refuse("model.name", name, rule) from error
    for module, mode in modes:
        module.training = mode
    result = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    rule = f"returns {result} for 2 images; it must return logits (2, {shape.num_classes})"
    require(result == (2, shape.num_classes), "model.name", name, rule)
    is_trainable = any(parameter.requires_grad for parameter in model.parameters())
    require(is_trainable, "model.name", name, "has no parameters to train; set requires_grad on some")
    for layer, module in model.named_modules():
        rule = f"{layer!r} is a SyncBatchNorm, whose statistics depend on the ranks; use BatchNorm"
        require(not isinstance(module, nn.SyncBatchNorm), "model.name", name, rule)
    for key, value in model.state_dict().items():
        rule = f"{key!r} in its state_dict is a {type(value).__name__}; a checkpoint holds tensors only"
        require(isinstance(value, Tensor), "model.name", name, rule)
        rule = f"{key!r} is lazy, and the forward does not use it, so it has no shape; remove it or use it"
        require(not is_lazy(value), "model.name", name, rule)


def _first_line(error: Exception) -> str:
    """Where the innermost line outside of torch raised the error, and its first line."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if "/torch/" not in frame.filename]
    frame = (theirs or frames)[-1]
    text = next(iter(str(error).splitlines()), "")
    return f"{frame.filename.rpartition('/')[2]} line {frame.lineno}: {type(error).__name__}: {text}"
