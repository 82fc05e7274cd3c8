"""From data and plan to windows of micro-batches, on the device.

This does the work of a data loader. Pixels reach the device as uint8, and each micro-batch is normalised and
augmented there. A resident training set stays on the device: a step copies nothing from the host, and the
sample ids of an epoch are uploaded once. For a set that stays on disk, `prefetch.py` makes the spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from lockstep.data.augment import Augment
from lockstep.data.images import ImageStore
from lockstep.plan import Plan

# Mean and standard deviation of MNIST's training pixels on a scale from 0 to 255, as in PyTorch's own example
# (0.1307 and 0.3081 on a scale from 0 to 1). They are the same for every set, as pixels mean the same in all.
PIXEL_MEAN, PIXEL_STD = 0.1307 * 255, 0.3081 * 255


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The samples of one forward and backward pass on one rank, always of full shape."""

    images: torch.Tensor
    """Normalised pixels, float32 (batch, 1, 28, 28)."""
    labels: torch.Tensor
    """Digits, int64 (batch,)."""
    ids: torch.Tensor
    """Sample ids, PADDING for padding, int64 (batch,)."""
    step: int
    """The step it belongs to, counted from 0."""
    weights: torch.Tensor
    """The weight of each loss in the mean over the global batch, float32 (batch,): 1 / (samples in the whole
    global batch, over all ranks), or 0 for padding."""
    is_last: bool
    """Whether it is the last one of its rank's window."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive steps of one epoch, as one rank sees them."""

    ids: torch.Tensor
    """Sample ids, PADDING at the end of an epoch, int64 (steps, window, micro), on the device."""
    windows: Iterable[tuple[torch.Tensor, torch.Tensor]]
    """Each step's images, uint8 (window, micro, 28, 28), and labels, int64 (window, micro), on the device."""


def resident_spans(store: ImageStore, plan: Plan, rank: int, first_step: int) -> Iterator[Span]:
    """Yields the spans from a step on, without end, from a store on the device. Each ends with its epoch."""
    epoch, offset = plan.epoch_and_offset(first_step)
    while True:
        mine = plan.epoch_ids(epoch)[offset:, plan.slots_of(rank)]
        ids = torch.from_numpy(mine).to(store.labels.device)
        yield Span(ids=ids, windows=map(store.read, without_padding(ids)))
        epoch, offset = epoch + 1, 0


def windows(
    spans: Iterable[Span], plan: Plan, first_step: int, augment: Augment | None = None
) -> Iterator[list[MicroBatch]]:
    """Yields the windows of one rank, whose spans start at a step. Each is a pure function of its step."""
    step = first_step
    for span in spans:
        epoch, _ = plan.epoch_and_offset(step)
        draws = augment.draws(epoch, without_padding(span.ids)) if augment else None
        for offset, (pixels, labels) in enumerate(span.windows):
            ids = span.ids[offset]  # (window, micro)
            weights = (ids >= 0) / plan.num_real(step)
            window = []
            # Iterating over a tensor splits it once. Indexing it each time would take longer than the rest.
            batches = zip(normalised(pixels), labels, ids, weights, strict=True)
            for index, (images, digits, micro_ids, micro_weights) in enumerate(batches):
                if augment and draws is not None:
                    images = augment.apply(images, draws[offset, index])
                window.append(
                    MicroBatch(
                        images=images,
                        labels=digits,
                        ids=micro_ids,
                        step=step,
                        weights=micro_weights,
                        is_last=index == plan.window - 1,
                    )
                )
            yield window
            step += 1


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """The input of a model, float32 (..., 1, 28, 28), from pixels, uint8 (..., 28, 28)."""
    return pixels.unsqueeze(-3).float().sub_(PIXEL_MEAN).div_(PIXEL_STD)


def without_padding(ids: torch.Tensor) -> torch.Tensor:
    """Sample ids with padding replaced by 0: padding has the pixels of sample 0 and weight 0."""
    return ids.clamp(min=0)
