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
    is_trainable = any(parameter.requires_grad for parameter in model.parameters())
    require(is_trainable, "model.name", name, "has no parameters to train; set requires_grad on some")
    for layer, module in model.named_modules():
        rule = f"{layer!r} is a SyncBatchNorm, whose statistics depend on the ranks; use BatchNorm"
        require(not isinstance(module, nn.SyncBatchNorm), "model.name", name, rule)
    for key, value in model.state_dict().items():
        rule = f"{key!r} in its state_dict is a {type(value).__name__}; a checkpoint holds tensors only"
        require(isinstance(value, Tensor), "model.name", name, rule)
