"""Images that are read and decoded each time: pixels travel as bytes, and are normalised on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lockstep.data.batches import MicroBatch, aligned
from lockstep.data.image_measures import ImageFacts
from lockstep.data.images.augment import Augment
from lockstep.data.images.image_store import StoredImages
from lockstep.data.images.labelled_images import DecodedImages
from lockstep.data.reading.generators import restored_generators, seed_generators
from lockstep.data.samples.content_digests import files_digest, samples_digest
from lockstep.data.samples.dataset_samples import DatasetSamples
from lockstep.data.samples.image_samples import CPU, as_pictures, update_digit_digest, update_image_digest
from lockstep.data.samples.samples import NUM_DIGESTED, Samples, spread_ids
from lockstep.plan import Plan


@dataclass(frozen=True, kw_only=True)
class StreamedImages(Samples):
    """Inputs are normalised pixels, float32 (batch, channels, size, size), targets labels, int64 (batch,)."""

    samples: Samples
    """The pixels, uint8, and labels, after data.transforms."""
    images: DecodedImages
    """The same without transforms."""
    facts: ImageFacts
    augment: Augment | None = None
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> StreamedImages:
        return replace(self, samples=self.samples.to(device), device=device)

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = self.samples.read(ids)
        return self.facts.normaliser(self.device)(pixels), labels

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        # Called now: worker processes are started here, before this process has threads.
        return self._prepared(plan, self.samples.windows(plan, rank, first_step, closing))

    def unchanged(self) -> StreamedImages:
        assert isinstance(self.samples, DatasetSamples)
        reader = replace(self.samples.reader, dataset=self.images)
        return replace(self, samples=replace(self.samples, reader=reader), augment=None)

    def _prepared(self, plan: Plan, windows: Iterator[list[MicroBatch]]) -> Iterator[list[MicroBatch]]:
        normalise = self.facts.normaliser(self.device)
        for window in windows:
            batches = [replace(batch, inputs=normalise(batch.inputs)) for batch in window]
            yield self._augmented(plan, batches) if self.augment and batches else batches

    def _augmented(self, plan: Plan, window: list[MicroBatch]) -> list[MicroBatch]:
        assert self.augment is not None
        epoch, _ = plan.epoch_and_offset(window[0].step)
        ids = torch.cat([batch.ids for batch in window]).to(self.device)
        images = torch.cat([batch.inputs for batch in window])
        changed = self.augment.apply(images, self.augment.draws(epoch, ids))
        parts = changed.split([batch.num_samples for batch in window])
        return [replace(batch, inputs=aligned(part)) for batch, part in zip(window, parts, strict=True)]

    @property
    def is_read_ahead(self) -> bool:
        return self.samples.is_read_ahead

    def batches(self, ids: Sequence[Sequence[int]], closing: ExitStack) -> Iterable[tuple[Any, Any]]:
        batches = self.samples.batches(ids, closing)
        return _Normalised(batches=batches, normalise=self.facts.normaliser(self.device))

    def difference(self, max_samples: int) -> str:
        return self.samples.difference(max_samples)

    def update_digest(self, digest: hashlib._Hash) -> None:
        update_image_digest(digest, len(self), self._sample)

    def content(self) -> dict[str, str]:
        """Of files their names and sizes: to read all pixels may take hours."""
        source, count = self.images.source, len(self)
        if source.paths:
            return {"files": files_digest(source.paths[:count], source.folder)}
        if isinstance(source.dataset, StoredImages):
            digest = hashlib.sha256()
            update_digit_digest(digest, source.dataset.images)
            return {"pixels": digest.hexdigest()}
        known = spread_ids(count, NUM_DIGESTED)
        return {"samples": samples_digest(count, known, self._sample)}

    def _sample(self, index: int) -> tuple[Tensor, int]:
        """A sample before data.transforms: the same each time, also if the user's own code draws."""
        with restored_generators(CPU):
            seed_generators(CPU, 0, "image", index)
            return self.images[index]

    def description(self) -> dict[str, Any]:
        return self.facts.as_json()

    def pictures(self, ids: Tensor) -> Tensor | None:
        size = self.facts.size
        images = torch.empty(len(ids), self.facts.channels, size, size, dtype=torch.uint8)
        for image, index in zip(images, ids.tolist(), strict=True):
            image.copy_(self._sample(index)[0])
        return as_pictures(images)


@dataclass(frozen=True, kw_only=True)
class _Normalised:
    """Batches whose pixels are normalised as they come, afresh in each iteration."""

    batches: Iterable[tuple[Any, Any]]
    normalise: Callable[[Tensor], Tensor]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return ((self.normalise(pixels), labels) for pixels, labels in self.batches)
