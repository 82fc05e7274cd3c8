"""The losses: one number per sample, and the mean over the global batch that a step minimises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from lockstep.config import LossConfig
from lockstep.data import MicroBatch

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


def share_of_mean(losses: Tensor, batch: MicroBatch) -> Tensor:
    """A micro-batch's share of the mean loss: (sum of its losses) / (samples in the global batch), shape ().

    The shares of all micro-batches on all ranks add up to the mean, however the batch is cut.
    """
    return losses.sum() * batch.weight
