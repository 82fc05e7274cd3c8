"""What a run needs of a data set: its samples by id, on the device, whatever holds them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lockstep.data.batches import MicroBatch
from lockstep.plan import Plan

CONTENT = "content"
"""In the description of a data set: the digests of `Samples.content`."""
NUM_DIGESTED = 16
"""Samples, evenly spread, that stand for a data set in its digest: reading all may take hours."""


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

    def unchanged(self) -> Samples:
        """The same samples without what training changes in each image: what an evaluation reads."""
        return self

    @property
    def is_read_ahead(self) -> bool:
        """Whether worker processes read it, if there are any."""
        return False

    def batches(self, ids: Sequence[Sequence[int]], closing: ExitStack) -> Iterable[tuple[Any, Any]]:
        """(inputs, targets) of each of several batches of sample ids, on the device, at each iteration anew.

        Args:
            ids: the samples of each batch.
            closing: closes what reads them ahead, such as worker processes.
        """
        return _Batches(self.read, ids)

    def difference(self, max_samples: int) -> str:
        """What differs between two reads of at most so many samples from equal seeds; empty if nothing."""
        return ""

    @abstractmethod
    def update_digest(self, digest: hashlib._Hash) -> None:
        """Adds to a digest what distinguishes these samples from others."""

    def content(self) -> dict[str, str]:
        """Digests of more than `update_digest` looks at, by what each is of, such as 'pixels'.

        They cost more than a few samples, and not all data has all of them: only a resume compares them.

        Raises:
            ConfigError: something cannot be read.
        """
        return {}

    def description(self) -> dict[str, Any]:
        """What else a run keeps of its training data besides a digest, as JSON values."""
        return {}

    def pictures(self, ids: Tensor) -> Tensor | None:
        """The samples as images, if that is what they are: digits, uint8 (batch, height, width), whose ink is
        bright; any others (batch, height, width, 1 or 3)."""
        return None


@dataclass(frozen=True)
class _Batches:
    """Batches that are read one by one, when they are needed."""

    read: Callable[[Tensor], tuple[Any, Any]]
    ids: Sequence[Sequence[int]]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self.read(torch.tensor(each)) for each in self.ids)


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """The batches of an evaluation that one rank scores."""

    num_samples: int
    """In the whole set."""
    num_chunks: int
    """Of all ranks."""
    mine: range
    """The numbers of this rank's chunks: the ranks take them in turn."""
    ids: Sequence[range]
    """The sample ids of each of them."""
    batches: Iterable[tuple[Any, Any]]
    """The (inputs, targets) of each of them, on the device, afresh in each iteration."""


def chunks_of(samples: Samples, size: int, rank: int, world_size: int, closing: ExitStack) -> Chunks:
    """Cuts a test set into chunks of a fixed size, so that a score has the same bits on any number of ranks.

    Args:
        samples: the test set.
        size: samples per chunk.
        rank: of this process.
        world_size: the number of ranks.
        closing: closes what reads the chunks ahead, such as worker processes.
    """
    num_chunks = -(-len(samples) // size)
    mine = range(rank, num_chunks, world_size)
    ids = [range(chunk * size, min((chunk + 1) * size, len(samples))) for chunk in mine]
    return Chunks(
        num_samples=len(samples),
        num_chunks=num_chunks,
        mine=mine,
        ids=ids,
        batches=samples.batches(ids, closing),
    )


def spread_ids(num_samples: int, count: int) -> list[int]:
    """The ids of at most `count` samples: the first, the last, and some in between."""
    count = min(count, num_samples)
    return [round(index * (num_samples - 1) / max(1, count - 1)) for index in range(count)]


def describe_data(
    name: str,
    train: Samples,
    test: Samples | None,
    validation: Samples | None = None,
    *,
    is_repeatable: bool = True,
) -> dict[str, Any]:
    """What distinguishes data from other data: a name, sizes, what is known of train, and a SHA-256.

    The SHA-256 is empty if two reads do not give the same. If it is not of all there is, 'content' has more:
    'train pixels', 'test files' and so on.
    """
    digest = hashlib.sha256()
    content: dict[str, str] = {}
    for split, samples in {"train": train, "test": test, "validation": validation}.items():
        if samples is not None and is_repeatable:
            digest.update(str(len(samples)).encode())
            samples.update_digest(digest)
            content |= {f"{split} {kind}": value for kind, value in samples.content().items()}
    return {
        "name": name,
        "num_train": len(train),
        "num_test": len(test) if test is not None else 0,
        **({} if validation is None else {"num_validation": len(validation)}),
        "sha256": digest.hexdigest() if is_repeatable else "",
        **({CONTENT: content} if content else {}),
        **train.description(),
    }
