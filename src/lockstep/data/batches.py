"""From data and plan to windows of micro-batches, on the device.

This does the work of a data loader for tensors that are read many samples at a time. Pixels reach the device
as uint8, and each micro-batch is normalised and augmented there. A resident training set stays on the device:
a step copies nothing from the host, and the sample ids of many steps are uploaded together. For images that
stay on disk, `prefetch.py` makes the spans; any other Dataset is read by `dataset_samples.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from lockstep.data.images.augment import Augment
from lockstep.plan import Plan

T = TypeVar("T")

# Mean and standard deviation of MNIST's training pixels on a scale from 0 to 255, as in PyTorch's own example
# (0.1307 and 0.3081 on a scale from 0 to 1). They are the same for every set, as pixels mean the same in all.
PIXEL_MEAN, PIXEL_STD = 0.1307 * 255, 0.3081 * 255

ALIGNMENT_BYTES = 256
"""What CUDA's libraries ask of an address when they choose a kernel, at most."""

SPAN_IDS = 2**16
"""About how many sample ids a rank computes and uploads together: some 5 ms, so no step waits long."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The samples of one forward and backward pass on one rank. The last one of an epoch may be short."""

    inputs: Any
    """What the model is called with: a tensor (batch, ...), or a tree of tensors."""
    targets: Any
    """What the loss compares the outputs with: a tensor (batch, ...), or a tree of tensors."""
    ids: torch.Tensor
    """Sample ids, int64 (batch,)."""
    step: int
    """The step that it belongs to, counted from 0."""
    slot: int
    """Its index in the global batch."""
    weight: float
    """What each sample counts in the mean over the global batch: 1 / (samples in the whole global batch)."""
    is_last: bool
    """Whether it ends its rank's window: an empty slot has no micro-batch."""

    @property
    def num_samples(self) -> int:
        return len(self.ids)


def micro_batch(
    plan: Plan, rank: int, step: int, index: int, inputs: Any, targets: Any, ids: torch.Tensor
) -> MicroBatch:
    """The micro-batch at an index of a rank's window, counted from 0."""
    return MicroBatch(
        inputs=inputs,
        targets=targets,
        ids=ids,
        step=step,
        slot=rank * plan.window + index,
        weight=1 / plan.samples_in_step(step),
        is_last=index == len(plan.window_sizes(step, rank)) - 1,
    )


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive steps of one epoch, as one rank sees them."""

    ids: torch.Tensor
    """Sample ids, PADDING at the end of an epoch, int64 (steps, window, micro), on the device."""
    windows: Iterable[tuple[torch.Tensor, torch.Tensor]]
    """Each step's inputs (window, micro, ...) and targets (window, micro, ...), on the device."""


def resident_spans(
    read: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    plan: Plan,
    rank: int,
    first_step: int,
    device: torch.device,
) -> Iterator[Span]:
    """Yields the spans from a step on, without end, of data on the device.

    `read` gives the inputs and targets of sample ids of any shape.
    """
    spans = (plan.span_ids(steps, rank) for steps in plan.spans(first_step, SPAN_IDS))
    for planned in computed_ahead(spans):
        ids = torch.from_numpy(planned)
        if device.type == "cuda":  # a copy from pinned memory waits for nothing
            ids = ids.pin_memory()
        ids = ids.to(device, non_blocking=True)
        yield Span(ids=ids, windows=map(read, without_padding(ids)))


def computed_ahead(values: Iterator[T]) -> Iterator[T]:
    """The values of an iterator without end, each computed in a thread while the one before is in use.

    The sample ids of the next epoch take some ms, in which a GPU would have nothing to do.
    """
    upcoming = _started(values)
    while True:
        value = upcoming.result()
        upcoming = _started(values)
        yield value


def _started(values: Iterator[T]) -> Future[T]:
    """The next value, computed in a thread that then ends: a process that is forked must find none."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(next, values)
    pool.shutdown(wait=False)
    return future


def windows(
    spans: Iterable[Span],
    plan: Plan,
    rank: int,
    first_step: int,
    *,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    augment: Augment | None = None,
) -> Iterator[list[MicroBatch]]:
    """The windows of one rank, whose spans begin at a step; each step's is a pure function of the step.

    At the end of an epoch a window may be shorter, or empty: nothing is padded.

    Args:
        spans: the data.
        plan: says which sample is in which slot.
        rank: of this process.
        first_step: the step that the first span begins with.
        prepare: turns the inputs of a whole window into those of the model.
        augment: changes prepared images.
    """
    step = first_step
    for span in spans:
        epoch, _ = plan.epoch_and_offset(step)
        draws = augment.draws(epoch, without_padding(span.ids)) if augment else None
        for offset, (inputs, targets) in enumerate(span.windows):
            sizes = plan.window_sizes(step, rank)
            weight = 1 / plan.samples_in_step(step)
            inputs = prepare(inputs) if prepare else inputs
            if augment and draws is not None:  # the whole window at once: a GPU waits for each launch
                changed = augment.apply(inputs.flatten(0, 1), draws[offset].flatten(0, 1))
                inputs = changed.view_as(inputs)
            window = []
            # Looping over a tensor cuts it once; indexing it each time costs more than the rest of this loop.
            batches = zip(sizes, inputs, targets, span.ids[offset], strict=False)
            for index, (size, batch, labels, ids) in enumerate(batches):
                is_whole = size == len(ids)
                window.append(
                    MicroBatch(
                        inputs=aligned(batch if is_whole else batch[:size]),
                        targets=aligned(labels if is_whole else labels[:size]),
                        ids=ids if is_whole else ids[:size],
                        step=step,
                        slot=rank * plan.window + index,
                        weight=weight,
                        is_last=index == len(sizes) - 1,
                    )
                )
            yield window
            step += 1


def aligned(part: torch.Tensor) -> torch.Tensor:
    """The tensor, on CUDA at an address as of an allocation: kernels, and so bits, depend on alignment."""
    return part.clone() if part.is_cuda and part.data_ptr() % ALIGNMENT_BYTES else part


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """The input of a model, float32 (..., 1, 28, 28), from pixels, uint8 (..., 28, 28)."""
    return pixels.unsqueeze(-3).float().sub_(PIXEL_MEAN).div_(PIXEL_STD)


def without_padding(ids: torch.Tensor) -> torch.Tensor:
    """Sample ids with padding replaced by 0: padding has the pixels of sample 0 and weight 0."""
    return ids.clamp(min=0)
