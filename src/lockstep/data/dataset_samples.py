"""Any map-style Dataset of torch as samples: read one by one, or held on the device if it is of tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset, default_collate

from lockstep.data.batches import SPAN_IDS, MicroBatch, micro_batch, resident_spans, windows
from lockstep.data.generators import restored_generators, seed_generators
from lockstep.data.samples import Samples
from lockstep.errors import refuse
from lockstep.plan import Plan

Collate = Callable[[list[Any]], Any]
"""From a list of samples to a batch (inputs, targets)."""

NUM_DIGESTED = 16
"""Samples, evenly spread, that stand for a data set in its digest: reading all may take hours."""

CPU = torch.device("cpu")


def samples_of(field: str, dataset: Any, seed: int, collate: Collate = default_collate) -> Samples:
    """A data set of any kind as samples.

    Args:
        field: what the data set is, for messages, such as 'task.train'.
        dataset: has `__len__` and `__getitem__`, whose samples are pairs (input, target).
        seed: of the run.
        collate: makes a batch of several samples.

    Raises:
        ConfigError: it is not such a data set.
    """
    if isinstance(dataset, Samples):
        return dataset
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        rule = "is an IterableDataset, which cannot be read by number; use a Dataset with __getitem__"
        raise refuse(field, kind, rule)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise refuse(
            field, kind, "must be a Dataset with __len__ and __getitem__, or a function that makes one"
        )
    if len(dataset) == 0:
        raise refuse(field, kind, "has no samples")
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2 and collate is default_collate:
        inputs, targets = dataset.tensors
        return TensorSamples(inputs=inputs, targets=targets)
    samples = DatasetSamples(dataset=dataset, seed=seed, collate=collate)
    samples.check_pairs(field)
    return samples


@dataclass(frozen=True, kw_only=True)
class TensorSamples(Samples):
    """Two tensors with a row for each sample, held on the device."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> TensorSamples:
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        flat = ids.flatten().to(self.inputs.device)
        rows = (each.index_select(0, flat) for each in (self.inputs, self.targets))
        inputs, targets = (each.reshape(*ids.shape, *each.shape[1:]) for each in rows)
        return inputs, targets

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        spans = resident_spans(self.read, plan, rank, first_step, self.inputs.device)
        return windows(spans, plan, rank, first_step)

    def update_digest(self, digest: hashlib._Hash) -> None:
        for index in digested_ids(len(self)):
            add_value(digest, (self.inputs[index], self.targets[index]))


@dataclass(frozen=True, kw_only=True)
class DatasetSamples(Samples):
    """A Dataset that is read sample by sample, in this process.

    Python's, NumPy's and torch's generators are seeded by (seed, epoch, sample id) before each sample, and by
    (seed, step, slot) before each collate. So what a transform draws is the same on any topology.
    """

    dataset: Any
    seed: int
    collate: Collate
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.dataset)

    def to(self, device: torch.device) -> DatasetSamples:
        return replace(self, device=device)

    def check_pairs(self, field: str) -> None:
        """Reads the first sample.

        Raises:
            ConfigError: it is not a pair.
        """
        with restored_generators(CPU):
            sample = self._sample("look at", 0)
        if not (isinstance(sample, tuple | list) and len(sample) == 2):
            shown = f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, Sequence) else sample
            raise refuse(
                f"{field}[0]", shown, "must be a pair (input, target); each may be a tree of tensors"
            )

    def read(self, ids: Tensor) -> tuple[Any, Any]:
        samples = [self._sample("evaluation sample", index) for index in ids.tolist()]
        seed_generators(CPU, self.seed, "evaluation collate", int(ids[0]))
        return self._on_device(samples)

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        for steps in plan.spans(first_step, SPAN_IDS):
            for step, ids in zip(steps, torch.from_numpy(plan.span_ids(steps, rank)), strict=True):
                yield self._window(plan, rank, step, ids)

    def _window(self, plan: Plan, rank: int, step: int, window_ids: Tensor) -> list[MicroBatch]:
        epoch, _ = plan.epoch_and_offset(step)
        window = []
        for index, size in enumerate(plan.window_sizes(step, rank)):
            slot = rank * plan.window + index
            ids = window_ids[index, :size]
            samples = [self._sample("sample", epoch, number) for number in ids.tolist()]
            seed_generators(CPU, self.seed, "collate", step, slot)
            inputs, targets = self._on_device(samples)
            window.append(micro_batch(plan, rank, step, index, inputs, targets, ids))
        return window

    def _sample(self, purpose: str, *position: int) -> Any:
        seed_generators(CPU, self.seed, purpose, *position)
        return self.dataset[position[-1]]

    def _on_device(self, samples: list[Any]) -> tuple[Any, Any]:
        inputs, targets = send_to_device(self.collate(samples), self.device)
        return inputs, targets

    def update_digest(self, digest: hashlib._Hash) -> None:
        with restored_generators(CPU):
            for index in digested_ids(len(self)):
                add_value(digest, self._sample("evaluation sample", index))


def digested_ids(num_samples: int) -> list[int]:
    """The ids of at most NUM_DIGESTED samples: the first, the last, and some in between."""
    count = min(NUM_DIGESTED, num_samples)
    return [round(index * (num_samples - 1) / max(1, count - 1)) for index in range(count)]


def add_value(digest: hashlib._Hash, value: Any) -> None:
    """Adds a sample to a digest: trees of tensors, arrays, images, numbers and text."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            add_value(digest, value[key])
    elif isinstance(value, tuple | list):
        for entry in value:
            add_value(digest, entry)
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, str | int | float | bool) or value is None:
        digest.update(json.dumps(value).encode())
    else:
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape}".encode())
        if array.dtype != object:  # its bytes would be addresses
            digest.update(np.ascontiguousarray(array).tobytes())
