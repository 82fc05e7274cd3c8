"""The losses of the built-in task by name: from logits and labels to one number per sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from lockstep.config import LossConfig

Criterion = Callable[[Tensor, Tensor], Tensor]
"""From logits (batch, classes) and labels (batch,) to the losses of the samples (batch,)."""


def build_criterion(config: LossConfig) -> Criterion:
    """The criterion that the config names."""
    return LOSSES[config.name](config)


def cross_entropy(config: LossConfig) -> Criterion:
    """torch's cross-entropy, with label smoothing."""
    return partial(F.cross_entropy, reduction="none", label_smoothing=config.label_smoothing)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over classes of the squared difference between the outputs and the one-hot label, (batch,)."""
    targets = F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return (outputs - targets).square().mean(dim=1)


LOSSES: dict[str, Callable[[LossConfig], Criterion]] = {
    "cross-entropy": cross_entropy,
    "mse": lambda config: squared_error,
}
"""Name → a function from the settings to the criterion."""
