"""From data and plan to windows of micro-batches, on the device.

The training set lives on the device as uint8; a micro-batch is gathered and normalised there, so nothing is
copied from the host in a step. An epoch's sample ids are uploaded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

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
        images = self.images[ids].unsqueeze(1).float()
        return images.sub_(PIXEL_MEAN).div_(PIXEL_STD), self.labels[ids]


def training_store(dataset: Dataset, device: torch.device) -> ImageStore:
    """The training set, on the device."""
    return ImageStore(images=dataset.train_images.to(device), labels=dataset.train_labels.to(device))


def evaluation_store(dataset: Dataset, device: torch.device) -> ImageStore:
    """The test set, on the device."""
    return ImageStore(images=dataset.test_images.to(device), labels=dataset.test_labels.to(device))


def windows(store: ImageStore, plan: Plan, rank: int, first_step: int) -> Iterator[list[MicroBatch]]:
    """The windows of one rank from a step on, without end; each step's is a pure function of the step."""
    step = first_step
    while True:
        epoch, first_in_epoch = plan.place(step)
        ids = torch.from_numpy(plan.epoch_ids(epoch)[:, plan.slots_of(rank)]).to(store.labels.device)
        for step_ids in ids[first_in_epoch:]:  # (window, micro)
            yield [
                micro_batch(store, slot_ids, plan.num_real(step), is_last=index == plan.window - 1)
                for index, slot_ids in enumerate(step_ids)
            ]
            step += 1


def micro_batch(store: ImageStore, ids: torch.Tensor, num_global: int, *, is_last: bool) -> MicroBatch:
    """The micro-batch of one slot; padded ids (-1) get weight 0 and the pixels of sample 0."""
    images, labels = store.gather(ids.clamp(min=0))
    return MicroBatch(
        images=images, labels=labels, weights=(ids >= 0).float(), num_global=num_global, is_last=is_last
    )
