"""Reads batches of a Dataset such that what its samples draw is a pure function of the seed and the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import Subset, default_collate, get_worker_info

from lockstep.data.reading.generators import (
    BITS,
    DrawWatch,
    restored_generators,
    seed_generators,
    seed_host_generators,
    seeded_transforms,
)
from lockstep.data.reading.sample_checks import check_label, check_pair, not_stackable, unreadable
from lockstep.data.reading.sample_trees import first_difference
from lockstep.errors import DataError
from lockstep.launch import limited
from lockstep.launch.liveness.heartbeats import READING
from lockstep.plan import derive_seed

Collate = Callable[[list[Any]], Any]
"""From a list of samples to a batch (inputs, targets)."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class KeyedReader:
    """Reads batches of a Dataset, in whatever process.

    Python's, NumPy's and torch's generators, and transforms with a `set_random_seed` (as albumentations
    has), are seeded before each `dataset[id]` by (seed, epoch, id). A Dataset with `__getitems__` reads a
    whole micro-batch at once, after they are seeded by (seed, step, slot); so are they before each collate.
    So a batch does not depend on the process that reads it, nor on what was read before.

    Most data sets draw from torch's generator alone, and to seed the two others takes longer than all else
    here. So they are watched instead, until something draws from them: that micro-batch is read again.
    """

    field: str
    """What the data set is, for messages, such as 'task.train'."""
    dataset: Any
    collate: Collate
    seed: int
    """Of the run."""
    num_classes: int = 0
    """If not 0, targets that are numbers must be classes."""

    def training_batch(self, epoch: int, step: int, slot: int, ids: Sequence[int]) -> tuple[Any, Any]:
        """(inputs, targets) of a micro-batch, on the CPU.

        Raises:
            DataError: it cannot be read.
        """
        with _undisturbed_process():
            return self._collated("", (step, slot), ids, self._samples("", (epoch,), (step, slot), ids))

    def evaluation_batch(self, ids: Sequence[int]) -> tuple[Any, Any]:
        """(inputs, targets) of samples that are scored, on the CPU: the same in each evaluation.

        Raises:
            DataError: they cannot be read.
        """
        prefix, of_batch = "evaluation ", tuple(ids[:1])
        with _undisturbed_process():
            return self._collated(prefix, of_batch, ids, self._samples(prefix, (), of_batch, ids))

    def evaluation_sample(self, index: int) -> Any:
        """One of these samples.

        Raises:
            DataError: it cannot be read.
        """
        with _undisturbed_process():
            return self._each("evaluation ", (), [index])[0]

    def difference(self, ids: Sequence[int]) -> str:
        """Reads a micro-batch twice from equal seeds; says what differs, nothing if it is the same.

        Raises:
            DataError: it cannot be read.
        """
        with _undisturbed_process():
            reads = [self._samples("", (0,), (0, 0), ids) for _ in range(2)]
            for index, *samples in zip(ids, *reads, strict=True):
                if path := _path_in_pair(*samples):
                    return f"sample {index} differs between two reads from equal seeds, in {path}"
            batches = [self._collated("", (0, 0), ids, reads[0]) for _ in range(2)]
        path = _path_in_pair(*batches)
        return path and f"two batches of the same samples from equal seeds differ in {path}"

    def _samples(
        self, prefix: str, of_sample: tuple[int, ...], of_batch: tuple[int, ...], ids: Sequence[int]
    ) -> list[Any]:
        if not reads_many(self.dataset):
            return self._each(prefix, of_sample, ids)
        self._seed(derive_seed(self.seed, f"{prefix}samples", *of_batch))
        try:
            with limited(READING):
                samples = list(self.dataset.__getitems__(list(ids)))
        except (Exception, SystemExit) as error:
            raise unreadable(f"{self.field}: samples {_listed(ids)} cannot be read", error) from None
        if len(samples) != len(ids):
            rule = f"gave {len(samples)} samples for {len(ids)} ids; it must give one for each"
            raise DataError(f"{self.field}: {type(self.dataset).__name__}.__getitems__ {rule}")
        for index, sample in zip(ids, samples, strict=True):
            self._check(index, sample)
        return samples

    def _each(self, prefix: str, of_sample: tuple[int, ...], ids: Sequence[int]) -> list[Any]:
        """The samples, read one by one."""
        # All at once: between two samples, this code would have left the processor's caches.
        seeds = [derive_seed(self.seed, f"{prefix}sample", *of_sample, index) for index in ids]
        if not self._watch.has_noticed:
            self._watch.restart()
            # What it raises may depend on what it has drawn, and is raised again below.
            with suppress(Exception):
                samples = [self._sample(*each, is_watched=True) for each in zip(ids, seeds, strict=True)]
                if not self._watch.is_drawn():
                    return samples
            self._watch.has_noticed = True
        return [self._sample(*each) for each in zip(ids, seeds, strict=True)]

    def _sample(self, index: int, seed: int, *, is_watched: bool = False) -> Any:
        self._seed(seed, is_watched=is_watched)
        try:
            with limited(READING):
                sample = self.dataset[index]
        except (Exception, SystemExit) as error:  # some libraries exit where a file is missing
            raise unreadable(f"{self.field}: sample {index} cannot be read", error) from None
        self._check(index, sample)
        return sample

    def _check(self, index: int, sample: Any) -> None:
        check_pair(self.field, index, sample)
        if self.num_classes:
            check_label(self.field, index, sample[1], self.num_classes)

    def _collated(
        self, prefix: str, of_batch: tuple[int, ...], ids: Sequence[int], samples: list[Any]
    ) -> tuple[Any, Any]:
        seed_generators(CPU, self.seed, f"{prefix}collate", *of_batch)
        try:
            batch = self.collate(samples)
        except (Exception, SystemExit) as error:
            by_shape = not_stackable(self.field, ids, samples) if self.collate is default_collate else None
            what = f"{self.field}: samples {_listed(ids)} cannot be made into a batch"
            raise by_shape or unreadable(what, error) from None
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            kind = type(batch).__name__
            raise DataError(f"task.collate: must return a pair (inputs, targets), and it returned a {kind}")
        inputs, targets = batch
        return inputs, targets

    def _seed(self, value: int, *, is_watched: bool = False) -> None:
        """Seeds what a sample may draw from; Python's and NumPy's generators only if they are not watched."""
        if is_watched:
            torch.default_generator.manual_seed(value)
        else:
            seed_host_generators(value)
        for transform in self._transforms:
            transform.set_random_seed(value & BITS)

    @cached_property
    def _watch(self) -> DrawWatch:
        return DrawWatch()

    @cached_property
    def _transforms(self) -> list[Any]:
        return seeded_transforms(self.dataset)


def reads_many(dataset: Any) -> bool:
    """Whether a Dataset reads many samples at once in its own way: a Subset only hands on to its data set."""
    if isinstance(dataset, Subset):
        return reads_many(dataset.dataset)
    return callable(getattr(dataset, "__getitems__", None))


@contextmanager
def _undisturbed_process() -> Iterator[None]:
    """Reads like a worker, and leaves a process that is not a worker as it was.

    A worker of torch's has one thread: sums over many threads have other bits. What a program draws after
    training must not depend on what was read.
    """
    if get_worker_info() is not None:
        yield
        return
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with restored_generators(CPU):
            yield
    finally:
        torch.set_num_threads(num_threads)


def _path_in_pair(one: Any, other: Any) -> str:
    places = zip(("input", "target"), one, other, strict=True)
    return next(filter(None, (first_difference(a, b, name) for name, a, b in places)), "")


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:4])) + (", …" if len(ids) > 4 else "")
