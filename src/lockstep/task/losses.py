"""The losses of a classifier by name: from logits and labels to a measurement."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import loss as torch_losses

from lockstep.config import NUM_CLASSES, LossConfig, check_arguments, import_reference, nearest
from lockstep.errors import refuse, require, short_message

Criterion = Callable[[Tensor, Tensor], Any]
"""From logits (batch, classes) and labels (batch,) to the losses of the samples (batch,), or to a sum and
what to divide it by, both (). A user's own may return anything else that a step accepts."""


def build_criterion(config: LossConfig, num_classes: int = NUM_CLASSES) -> Criterion:
    """The criterion that the config names.

    An error in the constructor of a user's own loss is its author's to fix and keeps its traceback.

    Raises:
        ConfigError: there is no such loss, or it does not take its arguments or these classes.
    """
    if config.name in LOSSES:
        return LOSSES[config.name](config, num_classes)
    if config.name.startswith("torch.nn:"):
        return _torchs_loss(config)
    return _users_loss(config)


def cross_entropy(config: LossConfig, num_classes: int) -> Criterion:
    """torch's cross-entropy, with label smoothing.

    With class weights it gives (sum of the weighted losses, sum of the labels' weights): torch's weighted
    mean is their ratio, and not a mean over samples.
    """
    if not config.class_weights:
        return partial(F.cross_entropy, reduction="none", label_smoothing=config.label_smoothing)
    rule = f"must have one weight for each of the {num_classes} classes"
    is_complete = len(config.class_weights) == num_classes
    require(is_complete, "loss.class_weights", config.class_weights, rule)

    def weighted(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = outputs if outputs.dtype == torch.float64 else outputs.float()
        weights = _on_device(tuple(config.class_weights), logits.device, logits.dtype)
        smoothing = config.label_smoothing
        total = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)
        return total, weights[labels].sum()

    return weighted


@lru_cache(maxsize=8)
def _on_device(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The values as a tensor, made once: a copy to a GPU in each micro-batch would wait for it."""
    return torch.tensor(values, device=device, dtype=dtype)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over classes of the squared difference between the outputs and the one-hot label, (batch,)."""
    return (outputs - _one_hot(outputs, labels)).square().mean(dim=1)


LOSSES: dict[str, Callable[[LossConfig, int], Criterion]] = {
    "cross-entropy": cross_entropy,
    "mse": lambda config, num_classes: squared_error,
}
"""Name → a function from the settings and the number of classes to the criterion."""

TAKE_LABELS = ("CrossEntropyLoss", "NLLLoss", "NLLLoss2d", "MultiMarginLoss")
"""The losses of torch.nn whose targets are classes (batch,)."""
TAKE_SIGNS = ("HingeEmbeddingLoss", "SoftMarginLoss")
"""Those whose targets are 1 for the label's class and -1 for the others, (batch, classes)."""
NO_TARGETS = {
    "MultiLabelMarginLoss": "its targets are lists of classes; use torch.nn:MultiMarginLoss",
    "LinearCrossEntropyLoss": "it has weights of its own, which no optimizer would train; use cross-entropy",
}
"""Those that cannot be computed from outputs and labels, besides those with three inputs → why."""


def _torchs_loss(config: LossConfig) -> Criterion:
    """A loss of torch.nn by its class; most take one-hot targets (batch, classes) in the outputs' dtype.

    What it gives for each element of a sample is averaged over the elements.
    """
    name = config.name.partition(":")[2]
    kinds = {
        key: kind
        for key, kind in vars(torch_losses).items()
        if key.endswith(("Loss", "Loss2d")) and not key.startswith("_") and hasattr(nn, key)
    }
    if name not in kinds:
        near = nearest(name, kinds)
        hint = f"; perhaps you meant 'torch.nn:{near}'" if near else f"; it has {', '.join(kinds)}"
        raise refuse("loss.name", config.name, f"is not a loss of torch.nn{hint}")
    kind = kinds[name]
    require(name not in NO_TARGETS, "loss.name", config.name, NO_TARGETS.get(name, ""))
    inputs = [each for each in inspect.signature(kind.forward).parameters if each != "self"]
    rule = f"takes {', '.join(inputs)}, but only outputs and labels are given; write a loss of your own"
    require(len(inputs) == 2, "loss.name", config.name, rule)
    check_arguments("loss.args", kind, config.args, reserved=("reduction", "reduce", "size_average"))
    try:
        module = kind(reduction="none", **config.args)
    except (TypeError, ValueError) as error:
        rule = f"do not fit {config.name} ({short_message(error)}); change them"
        raise refuse("loss.args", config.args, rule) from error

    def criterion(outputs: Tensor, labels: Tensor) -> Tensor:
        losses = module(outputs, _targets(name, outputs, labels))
        return losses.flatten(1).mean(dim=1) if losses.dim() > 1 else losses

    return criterion


def _targets(loss: str, outputs: Tensor, labels: Tensor) -> Tensor:
    if loss in TAKE_LABELS:
        return labels
    one_hot = _one_hot(outputs, labels)
    return 2 * one_hot - 1 if loss in TAKE_SIGNS else one_hot


def _one_hot(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)


def _users_loss(config: LossConfig) -> Criterion:
    """A user's function of outputs and labels, or a torch.nn.Module that is one."""
    target = import_reference("loss.name", config.name)
    is_class = isinstance(target, type)
    is_loss = issubclass(target, nn.Module) if is_class else callable(target)
    rule = "is neither a function nor a subclass of torch.nn.Module; name one"
    require(is_loss, "loss.name", config.name, rule)
    if not is_class:
        passed = list(inspect.signature(target).parameters)[:2]
        check_arguments("loss.args", target, config.args, reserved=passed)
        return partial(target, **config.args)
    check_arguments("loss.args", target, config.args)
    module = target(**config.args)
    rule = "has parameters, which no optimizer would train; put them into the model"
    require(not any(True for _ in module.parameters()), "loss.name", config.name, rule)
    # Its buffers follow the outputs to their device; a module that is there already is left as it is.
    return lambda outputs, labels: module.to(outputs.device)(outputs, labels)
