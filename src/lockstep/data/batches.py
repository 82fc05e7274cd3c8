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
    """The samples of one forward and backward pass on one rank. The last one of an epoch may be short."""

    images: torch.Tensor
    """Normalised pixels, float32 (batch, 1, 28, 28)."""
    labels: torch.Tensor
    """Digits, int64 (batch,)."""
    ids: torch.Tensor
    """Sample ids, int64 (batch,)."""
    step: int
    """The step that it belongs to, counted from 0."""
    slot: int
    """Its index in the global batch."""
    weight: float
    """What each loss counts in the mean over the global batch: 1 / (samples in the whole global batch)."""
    is_last: bool
    """Whether it ends its rank's window: an empty slot has no micro-batch."""


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
    spans: Iterable[Span], plan: Plan, rank: int, first_step: int, augment: Augment | None = None
) -> Iterator[list[MicroBatch]]:
    """The windows of one rank, whose spans begin at a step; each step's is a pure function of the step.

    At the end of an epoch a window may be shorter, or empty: nothing is padded.
    """
    step = first_step
    for span in spans:
        epoch, _ = plan.epoch_and_offset(step)
        draws = augment.draws(epoch, without_padding(span.ids)) if augment else None
        for offset, (pixels, labels) in enumerate(span.windows):
            sizes = plan.window_sizes(step, rank)
            weight = 1 / plan.samples_in_step(step)
            window = []
            # Looping over a tensor cuts it once; indexing it each time costs more than the rest of this loop.
            batches = zip(sizes, normalised(pixels), labels, span.ids[offset], strict=False)
            for index, (size, images, digits, ids) in enumerate(batches):
                if augment and draws is not None:
                    images = augment.apply(images[:size], draws[offset, index, :size])
                is_whole = size == len(ids)
                window.append(
                    MicroBatch(
                        images=images if is_whole else images[:size],
                        labels=digits if is_whole else digits[:size],
                        ids=ids if is_whole else ids[:size],
                        step=step,
                        slot=rank * plan.window + index,
                        weight=weight,
                        is_last=index == len(sizes) - 1,
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
