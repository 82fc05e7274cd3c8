"""Any map-style Dataset of torch as samples: read in the order of the plan, by workers or in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

from lockstep.config import DataConfig
from lockstep.data.batches import MicroBatch, micro_batch
from lockstep.data.reading.keyed_reader import CPU, Collate, KeyedReader
from lockstep.data.reading.sample_checks import check_labels, length_of, refused_data
from lockstep.data.reading.sample_trees import add_value
from lockstep.data.reading.workers import AHEAD, ReadFailure, Workers
from lockstep.data.samples.content_digests import samples_digest
from lockstep.data.samples.samples import NUM_DIGESTED, Samples, spread_ids
from lockstep.data.samples.tensor_samples import TensorSamples
from lockstep.errors import DataError, refuse, require
from lockstep.launch import advance
from lockstep.plan import Plan

SPAN_SAMPLES = 2048
"""About how many sample ids a worker computes together."""


def samples_of(
    name: str,
    dataset: Any,
    seed: int,
    collate: Collate = default_collate,
    *,
    num_classes: int = 0,
    config: DataConfig | None = None,
) -> Samples:
    """A data set of any kind as samples.

    Args:
        name: what the data set is, for messages, such as 'task.train'.
        dataset: has `__len__` and `__getitem__`, whose samples are pairs (input, target).
        seed: of the run.
        collate: makes a batch of several samples.
        num_classes: if not 0, targets that are numbers must be classes.
        config: says which processes read it; None: this one.

    Raises:
        ConfigError: it is not such a data set.
    """
    if isinstance(dataset, Samples):
        return dataset
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        rule = "is an IterableDataset, which cannot be read by number; use a Dataset with __getitem__"
        raise refuse(name, kind, rule)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise refuse(
            name, kind, "must be a Dataset with __len__ and __getitem__, or a function that makes one"
        )
    require(length_of(name, dataset) > 0, name, kind, "has no samples")
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2 and collate is default_collate:
        inputs, targets = dataset.tensors
        if num_classes:
            with refused_data():
                check_labels(name, targets, num_classes)
        return TensorSamples(inputs=inputs, targets=targets)
    reader = KeyedReader(field=name, dataset=dataset, collate=collate, seed=seed, num_classes=num_classes)
    with refused_data():
        reader.evaluation_sample(0)
    return DatasetSamples(reader=reader, config=config or DataConfig())


@dataclass(frozen=True, kw_only=True)
class DatasetSamples(Samples):
    """A Dataset whose samples are read when they are needed, by number."""

    reader: KeyedReader
    config: DataConfig = field(default_factory=DataConfig)
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.reader.dataset)

    def to(self, device: torch.device) -> DatasetSamples:
        return replace(self, device=device)

    @property
    def is_read_ahead(self) -> bool:
        return True

    def read(self, ids: Tensor) -> tuple[Any, Any]:
        """Raises ConfigError, if they cannot be read."""
        with refused_data():
            inputs, targets = send_to_device(self.reader.evaluation_batch(ids.tolist()), self.device)
        return inputs, targets

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        """Raises ConfigError, if the data set cannot be sent to workers; reading raises DataError."""
        slots = (
            (step, slot)
            for step in count(first_step)
            for slot, _ in enumerate(plan.window_sizes(step, rank), rank * plan.window)
        )
        # A step takes its whole window before it computes, so the next one must be read meanwhile.
        ahead = max(AHEAD, -(-2 * plan.window // max(1, self.config.num_workers)))
        reader = MicroBatchReader(self.reader, plan, rank)
        workers = Workers(reader, slots, self.config, self.device, ahead)
        return _windows(plan, rank, first_step, closing.enter_context(workers))

    def batches(self, ids: Sequence[Sequence[int]], closing: ExitStack) -> Iterable[tuple[Any, Any]]:
        """Raises ConfigError, if the data set cannot be sent to workers; reading raises DataError."""
        workers = Workers(EvaluationReader(self.reader), (), self.config, self.device)
        return RepeatedBatches(closing.enter_context(workers), ids)

    def difference(self, max_samples: int) -> str:
        """Raises ConfigError, if a sample cannot be read."""
        with refused_data():
            return self.reader.difference(spread_ids(len(self), min(NUM_DIGESTED, max_samples)))

    def update_digest(self, digest: hashlib._Hash) -> None:
        """Raises ConfigError, if a sample cannot be read."""
        with refused_data():
            for index in spread_ids(len(self), NUM_DIGESTED):
                add_value(digest, self.reader.evaluation_sample(index))

    def content(self) -> dict[str, str]:
        """Raises ConfigError, if a sample cannot be read."""
        known = spread_ids(len(self), NUM_DIGESTED)
        with refused_data():
            return {"samples": samples_digest(len(self), known, self.reader.evaluation_sample)}


def _windows(
    plan: Plan, rank: int, first_step: int, batches: Iterator[tuple[Tensor, Any, Any]]
) -> Iterator[list[MicroBatch]]:
    for step in count(first_step):
        window = []
        for index, _ in enumerate(plan.window_sizes(step, rank)):
            ids, inputs, targets = next(batches)
            advance()
            window.append(micro_batch(plan, rank, step, index, inputs, targets, ids))
        yield window


class MicroBatchReader(Dataset[Any]):
    """Reads a rank's micro-batches by (step, slot). A worker knows the plan and works out what to read."""

    def __init__(self, reader: KeyedReader, plan: Plan, rank: int) -> None:
        self.reader, self.plan, self.rank = reader, plan, rank
        self._span, self._ids = range(0), torch.empty(0)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Any, Any] | ReadFailure:
        step, slot = key
        if step not in self._span:  # a worker meets all steps of a span, and one costs as much as many
            self._span = next(self.plan.spans(step, SPAN_SAMPLES))
            self._ids = torch.from_numpy(self.plan.span_ids(self._span, self.rank))
        ids = self._ids[step - self._span.start, slot % self.plan.window]
        ids = ids[ids >= 0]  # without padding
        epoch, _ = self.plan.epoch_and_offset(step)
        try:
            return ids, *self.reader.training_batch(epoch, step, slot, ids.tolist())
        except DataError as error:
            return ReadFailure(message=str(error))


class EvaluationReader(Dataset[Any]):
    """Reads the batches of evaluations by their sample ids."""

    def __init__(self, reader: KeyedReader) -> None:
        self.reader = reader

    def __getitem__(self, ids: Sequence[int]) -> tuple[Any, Any] | ReadFailure:
        try:
            return self.reader.evaluation_batch(ids)
        except DataError as error:
            return ReadFailure(message=str(error))


@dataclass(frozen=True)
class RepeatedBatches:
    """Batches that workers read again in each iteration."""

    workers: Workers
    ids: Sequence[Sequence[int]]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self.workers.read(self.ids)
