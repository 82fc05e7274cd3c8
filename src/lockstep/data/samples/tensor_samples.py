"""Two tensors as samples, held on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lockstep.data.batches import MicroBatch, resident_spans, windows
from lockstep.data.reading.sample_trees import add_value
from lockstep.data.samples.content_digests import rows_digest
from lockstep.data.samples.samples import NUM_DIGESTED, Samples, spread_ids
from lockstep.plan import Plan


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
        for index in spread_ids(len(self), NUM_DIGESTED):
            add_value(digest, (self.inputs[index], self.targets[index]))

    def content(self) -> dict[str, str]:
        return {"tensors": rows_digest(self.inputs, self.targets)}
