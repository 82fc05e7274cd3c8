"""Losses and metrics as sums and counts, which add up to a mean over all batches however they are cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from lockstep.data import MicroBatch
from lockstep.errors import ConfigError, refuse

LOSS = "loss"
"""The name of the loss among the values of a batch, and in a loss with named parts."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A sum over a batch and what it is a sum of: the mean is sum / count."""

    total: Tensor
    """Shape ()."""
    count: Tensor | int
    """Samples, or the count that a loss or metric gave, such as tokens, shape ()."""
    per_sample: Tensor | None = None
    """The value of each sample (batch,), if it is known."""

    @property
    def has_own_count(self) -> bool:
        """Whether it is a mean over something other than samples."""
        return isinstance(self.count, Tensor)


def measure(field: str, value: Any, num_samples: int) -> Measure:
    """What a loss or a metric gave for a batch, in any of its three forms, as a sum and a count.

    Args:
        field: the loss or metric, for messages, such as 'task.loss'.
        value: one number per sample (batch,); their mean (); or a pair (sum, count) of numbers.
        num_samples: samples in the batch.

    Raises:
        ConfigError: it has none of these forms.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        total, count = (torch.as_tensor(entry) for entry in value)
        if total.numel() == count.numel() == 1 and not count.requires_grad:
            count = count.reshape(()).to(total.device, torch.float32)
            return Measure(total=_wide(total.reshape(())), count=count)
    elif isinstance(value, Tensor) and value.shape == (num_samples,):
        wide = _wide(value)
        return Measure(total=wide.sum(), count=num_samples, per_sample=wide)
    elif isinstance(value, Real) or (isinstance(value, Tensor) and value.shape == ()):
        total = value if isinstance(value, Tensor) else torch.tensor(float(value))
        return Measure(total=_wide(total) * num_samples, count=num_samples)
    raise wrong_form(field, value, num_samples)


def _wide(value: Tensor) -> Tensor:
    """The value in at least float32: a sum in half precision overflows, or stops growing."""
    return value.float() if value.dtype.itemsize < 4 else value


def wrong_form(field: str, value: Any, num_samples: int) -> ConfigError:
    """The error for a loss or metric of another form."""
    shown = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return refuse(
        field,
        f"{shown} for {num_samples} samples",
        f"must be a number per sample ({num_samples},), their mean (), or a pair (sum, count), whose count "
        "has no gradient",
    )


def named_values(field: str, value: Any) -> dict[str, Any]:
    """A loss with its parts by name, the loss itself first.

    Raises:
        ConfigError: it is a mapping without an entry named 'loss'.
    """
    if not isinstance(value, Mapping):
        return {LOSS: value}
    if LOSS not in value:
        raise refuse(field, f"a dict of {', '.join(map(str, value))}", f"must have an entry {LOSS!r}")
    return {LOSS: value[LOSS], **{name: part for name, part in value.items() if name != LOSS}}


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a micro-batch adds to the loss of the global batch, and what that is divided by in the end."""

    total: Tensor
    """Where the backward starts, shape ()."""
    count: Tensor | None = None
    """Added over all micro-batches, it divides the sum of the totals. None: the totals add up to the mean."""


def share_of_mean(value: Any, batch: MicroBatch) -> Share:
    """A micro-batch's share of the mean loss over the global batch.

    Without a count of its own: (sum of its losses) / (samples in the global batch). With one, both the sum
    and the count are scaled by 1 / (samples in the global batch), which keeps fp16 gradients in range, and
    their sums over all micro-batches on all ranks are divided.

    Args:
        value: what the task's loss gave for the micro-batch, in any of its forms.
        batch: the micro-batch.

    Raises:
        ConfigError: it has none of the forms of a loss.
    """
    if type(value) is Tensor and value.dtype is torch.float32 and value.shape == (batch.num_samples,):
        return Share(total=value.sum() * batch.weight)  # the usual case: digits spend no time on the others
    measured = measure("task.loss", named_values("task.loss", value)[LOSS], batch.num_samples)
    if isinstance(measured.count, Tensor):
        return Share(total=measured.total * batch.weight, count=measured.count * batch.weight)
    return Share(total=measured.total * batch.weight)
