"""From data and plan to windows of micro-batches, on the device.

The training set lives on the device as uint8; a micro-batch is gathered and normalised there, so nothing is
copied from the host in a step. An epoch's sample ids are uploaded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lockstep.augment import Augment
from lockstep.data import Dataset
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
    """1 for a sample and 0 for padding, float32 (batch,)."""
    num_global: int
    """Samples in the whole global batch, over all ranks: what a sum of losses is divided by."""
    is_last: bool
    """Whether it ends its rank's window."""


@dataclass(frozen=True, kw_only=True)
class ImageStore:
    """Images (samples, 28, 28) as uint8 and labels (samples,) on the device."""

    images: torch.Tensor
    labels: torch.Tensor

    def gather(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images (batch, 1, 28, 28) and labels (batch,) of sample ids (batch,)."""
        # index_select copies whole rows; indexing with a tensor goes pixel by pixel.
        images = self.images.index_select(0, ids).unsqueeze(1).float()
        return images.sub_(PIXEL_MEAN).div_(PIXEL_STD), self.labels.index_select(0, ids)


def training_store(dataset: Dataset, device: torch.device) -> ImageStore:
    """The training set, on the device."""
    return ImageStore(images=dataset.train_images.to(device), labels=dataset.train_labels.to(device))


def evaluation_store(dataset: Dataset, device: torch.device) -> ImageStore:
    """The test set, on the device."""
    return ImageStore(images=dataset.test_images.to(device), labels=dataset.test_labels.to(device))


def windows(
    store: ImageStore, plan: Plan, rank: int, first_step: int, augment: Augment | None = None
) -> Iterator[list[MicroBatch]]:
    """The windows of one rank from a step on, without end; each step's is a pure function of the step."""
    step, device = first_step, store.labels.device
    while True:
        epoch, first_in_epoch = plan.place(step)
        ids = torch.from_numpy(plan.epoch_ids(epoch)[:, plan.slots_of(rank)]).to(device)
        draws = augment.epoch_draws(epoch, plan.num_samples, device) if augment else None
        for step_ids in ids[first_in_epoch:]:  # (window, micro)
            window = []
            for index, slot_ids in enumerate(step_ids):
                real = slot_ids.clamp(min=0)  # padding has weight 0 and the pixels of sample 0
                images, labels = store.gather(real)
                if augment and draws is not None:
                    images = augment.apply(images, draws[real])
                window.append(
                    MicroBatch(
                        images=images,
                        labels=labels,
                        ids=slot_ids,
                        step=step,
                        weights=(slot_ids >= 0).float(),
                        num_global=plan.num_real(step),
                        is_last=index == plan.window - 1,
                    )
                )
            yield window
            step += 1
