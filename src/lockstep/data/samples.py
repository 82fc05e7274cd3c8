"""What a run needs of a data set: its samples by id, on the device, whatever holds them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from lockstep.data.batches import MicroBatch
from lockstep.plan import Plan


class Samples(ABC):
    """A data set as the loop reads it. A sample is a pair (input, target); both may be trees of tensors."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def to(self, device: torch.device) -> Samples:
        """The same samples, which are then read onto a device."""

    @abstractmethod
    def read(self, ids: Tensor) -> tuple[Any, Any]:
        """(inputs, targets) of sample ids, int64 (batch,) on the CPU: a batch on the device, unchanged."""

    @abstractmethod
    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        """The micro-batches of a rank, step by step without end.

        Args:
            plan: says which sample is in which slot.
            rank: of this process.
            first_step: the step to begin with, counted from 0.
            closing: closes what reads the data ahead, such as worker processes.
        """

    @abstractmethod
    def update_digest(self, digest: hashlib._Hash) -> None:
        """Adds to a digest what distinguishes these samples from others."""

    def description(self) -> dict[str, Any]:
        """What else a run keeps of its training data besides a digest, as JSON values."""
        return {}

    def pictures(self, ids: Tensor) -> Tensor | None:
        """The samples as images, if that is what they are: digits, uint8 (batch, height, width), whose ink is
        bright; any others (batch, height, width, 1 or 3)."""
        return None


def describe_data(name: str, train: Samples, test: Samples | None) -> dict[str, Any]:
    """What distinguishes data from other data: a name, sizes, a SHA-256, and the description of train."""
    digest = hashlib.sha256()
    for samples in (train, test):
        if samples is not None:
            digest.update(str(len(samples)).encode())
            samples.update_digest(digest)
    return {
        "name": name,
        "num_train": len(train),
        "num_test": len(test) if test is not None else 0,
        "sha256": digest.hexdigest(),
        **train.description(),
    }
