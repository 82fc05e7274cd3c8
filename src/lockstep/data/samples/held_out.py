"""A part of a data set that is scored and not trained on, such as what data.validation holds out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lockstep.data.batches import MicroBatch
from lockstep.data.samples.samples import Samples
from lockstep.plan import Plan


@dataclass(frozen=True, kw_only=True)
class HeldOutSamples(Samples):
    """Some samples of another set, numbered from 0 on."""

    whole: Samples
    ids: Tensor
    """Their ids in the whole set, int64 (samples,), on the CPU."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Any) -> HeldOutSamples:
        return replace(self, whole=self.whole.to(device))

    def read(self, ids: Tensor) -> tuple[Any, Any]:
        return self.whole.read(self.ids[ids])

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        raise AssertionError("held-out samples are not trained on")

    @property
    def is_read_ahead(self) -> bool:
        return self.whole.is_read_ahead

    def batches(self, ids: Sequence[Sequence[int]], closing: ExitStack) -> Iterable[tuple[Any, Any]]:
        return self.whole.batches([self.ids[list(each)].tolist() for each in ids], closing)

    def update_digest(self, digest: hashlib._Hash) -> None:
        digest.update(self.ids.numpy().tobytes())
        self.whole.update_digest(digest)

    def content(self) -> dict[str, str]:
        return self.whole.content()

    def pictures(self, ids: Tensor) -> Tensor | None:
        return self.whole.pictures(self.ids[ids])
