"""A user's own model: found where the command is started, and tried out before anything else is."""

from __future__ import annotations

import inspect
import os
import pkgutil
import sys

import torch
from torch import Tensor, nn

from lockstep.config import IMAGE_SIZE, NUM_CLASSES
from lockstep.errors import refuse, require


def make_users_model(name: str) -> nn.Module:
    """The model of 'package.module:Class', from images (batch, 1, 28, 28) to logits (batch, 10).

    What its constructor or its forward raises is for its author, and keeps its traceback.

    Raises:
        ConfigError: there is no such class, or it makes no model that can be trained.
    """
    model = _import(name)()
    _try_out(model, name)
    return model


def _import(name: str) -> type[nn.Module]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it; a console script has its own folder instead
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        rule = f"cannot be imported ({error}); it must be 'package.module:Class', importable from here"
        raise refuse("model.name", name, rule) from error
    is_module = isinstance(found, type) and issubclass(found, nn.Module)
    require(is_module, "model.name", name, "is no class of torch.nn.Module; name one")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        rule = f"its constructor must take no arguments ({error}); give each a default"
        raise refuse("model.name", name, rule) from error
    return found


def _try_out(model: nn.Module, name: str) -> None:
    device = next((parameter.device for parameter in model.parameters()), None)
    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, 1, IMAGE_SIZE, IMAGE_SIZE, device=device))
    model.train()
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    rule = f"makes {found} of 2 images; it must make logits (2, {NUM_CLASSES})"
    require(found == (2, NUM_CLASSES), "model.name", name, rule)
    dtypes = {str(parameter.dtype) for parameter in model.parameters() if parameter.requires_grad}
    rule = f"its trained parameters must be of one dtype, and are of {', '.join(sorted(dtypes)) or 'none'}"
    require(len(dtypes) == 1, "model.name", name, f"{rule}; cast the whole model to one")


def topology_warnings(model: nn.Module) -> list[str]:
    """What in a user's model makes its numbers depend on the topology."""
    kinds = {
        nn.modules.batchnorm._BatchNorm: "its statistics are a micro-batch's; GroupNorm has no such problem",
        nn.modules.dropout._DropoutNd: "it reads a global generator; lockstep.models.KeyedDropout does not",
    }
    return [
        f"model.{name} is a {type(module).__name__}, so this run's numbers depend on its topology: {reason}"
        for name, module in model.named_modules()
        for kind, reason in kinds.items()
        if isinstance(module, kind)
    ]
