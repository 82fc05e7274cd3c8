"""From data and plan to windows of micro-batches, on the device.

Pixels come to the device as uint8; each micro-batch is normalised and augmented there. Where they come from
is a span's matter: a resident training set lives on the device, so that nothing is copied from the host in a
step and an epoch's sample ids are uploaded once; `streaming.py` makes the spans of a set that stays on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from lockstep.data.augment import Augment
from lockstep.data.images import ImageStore
from lockstep.plan import Plan

# Mean and standard deviation of MNIST's training pixels on a scale of 0 to 255, as in PyTorch's own example
# (0.1307, 0.3081 on a scale of 0 to 1). Fixed for every set: a pixel means the same in all of them.
PIXEL_MEAN, PIXEL_STD = 0.1307 * 255, 0.3081 * 255


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The samples of one forward/backward on one rank, always of full shape."""

    images: torch.Tensor
    """Normalised pixels, float32 (batch, 1, 28, 28)."""
    labels: torch.Tensor
    """Digits, int64 (batch,)."""
    ids: torch.Tensor
    """Sample ids, -1 for padding, int64 (batch,)."""
    step: int
    """The step that it belongs to, counted from 0."""
    weights: torch.Tensor
    """What each loss counts in the mean over the global batch, float32 (batch,): 1 / (samples in the whole
    global batch, over all ranks), and 0 for padding."""
    is_last: bool
    """Whether it ends its rank's window."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive steps of one epoch, as one rank sees them."""

    ids: torch.Tensor
    """Sample ids, PADDING at the end of an epoch, int64 (steps, window, micro), on the device."""
    windows: Iterable[tuple[torch.Tensor, torch.Tensor]]
    """Each step's images, uint8 (window, micro, 28, 28), and labels, int64 (window, micro), on the device."""


def resident_spans(store: ImageStore, plan: Plan, rank: int, first_step: int) -> Iterator[Span]:
    """The steps from one on, without end, out of a store on the device; a span is the rest of an epoch."""
    epoch, place = plan.epoch_and_offset(first_step)
    while True:
        mine = plan.epoch_ids(epoch)[place:, plan.slots_of(rank)]
        ids = torch.from_numpy(mine).to(store.labels.device)
        yield Span(ids=ids, windows=map(store.read, without_padding(ids)))
        epoch, place = epoch + 1, 0


def windows(
    spans: Iterable[Span], plan: Plan, first_step: int, augment: Augment | None = None
) -> Iterator[list[MicroBatch]]:
    """The windows of one rank, whose spans begin at a step; each step's is a pure function of the step."""
    step = first_step
    for span in spans:
        epoch, _ = plan.epoch_and_offset(step)
        draws = augment.draws(epoch, without_padding(span.ids)) if augment else None
        for place, (pixels, labels) in enumerate(span.windows):
            ids = span.ids[place]  # (window, micro)
            weights = (ids >= 0) / plan.num_real(step)
            window = []
            # Looping over a tensor cuts it once; indexing it each time costs more than the rest of this loop.
            batches = zip(normalised(pixels), labels, ids, weights, strict=True)
            for index, (images, digits, micro_ids, micro_weights) in enumerate(batches):
                if augment and draws is not None:
                    images = augment.apply(images, draws[place, index])
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
    """Images as a model wants them, float32 (..., 1, 28, 28), from uint8 (..., 28, 28)."""
    return pixels.unsqueeze(-3).float().sub_(PIXEL_MEAN).div_(PIXEL_STD)


def without_padding(ids: torch.Tensor) -> torch.Tensor:
    """Sample ids with those of padding turned to 0: padding has weight 0 and the pixels of sample 0."""
    return ids.clamp(min=0)
