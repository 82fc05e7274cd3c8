"""A user's own model: imported from the current folder, and tried out before training starts."""

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

    An error in its constructor or its forward is its author's to fix and keeps its traceback.

    Raises:
        ConfigError: there is no such class, or its model cannot be trained.
    """
    model = _import(name)()
    _try_out(model, name)
    return model


def _import(name: str) -> type[nn.Module]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does; a console script has its own folder there
    try:
        target = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        rule = f"cannot be imported ({error}); name 'package.module:Class', importable from this folder"
        raise refuse("model.name", name, rule) from error
    is_module = isinstance(target, type) and issubclass(target, nn.Module)
    require(is_module, "model.name", name, "is not a subclass of torch.nn.Module; name one")
    try:
        inspect.signature(target).bind()
    except TypeError as error:
        rule = f"its constructor must not need arguments ({error}); give each a default"
        raise refuse("model.name", name, rule) from error
    return target


def _try_out(model: nn.Module, name: str) -> None:
    device = next((parameter.device for parameter in model.parameters()), None)
    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, 1, IMAGE_SIZE, IMAGE_SIZE, device=device))
    model.train()
    result = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    rule = f"returns {result} for 2 images; it must return logits (2, {NUM_CLASSES})"
    require(result == (2, NUM_CLASSES), "model.name", name, rule)
    dtypes = sorted({str(parameter.dtype) for parameter in model.parameters() if parameter.requires_grad})
    require(bool(dtypes), "model.name", name, "has no parameters to train; set requires_grad on some")
    rule = f"its trained parameters must share one dtype, not {', '.join(dtypes)}; cast the model to one"
    require(len(dtypes) == 1, "model.name", name, rule)


def topology_warnings(model: nn.Module) -> list[str]:
    """A line for each layer of a user's model that makes its numbers depend on the topology."""
    kinds = {
        nn.modules.batchnorm._BatchNorm: "its statistics are those of a micro-batch; use GroupNorm",
        nn.modules.dropout._DropoutNd: "it draws from a global generator; use lockstep.models.KeyedDropout",
    }
    return [
        f"model.{name} is a {type(module).__name__}, so this run's numbers depend on its topology: {reason}"
        for name, module in model.named_modules()
        for kind, reason in kinds.items()
        if isinstance(module, kind)
    ]
