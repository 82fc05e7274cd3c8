"""Images as samples: bytes on the device, or digits streamed from files; normalised on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lockstep.config import DataConfig
from lockstep.data.batches import MicroBatch, Span, normalised, resident_spans, windows
from lockstep.data.image_measures import ImageFacts
from lockstep.data.images.augment import Augment
from lockstep.data.images.image_store import ImageFiles, ImageStore, StoredImages
from lockstep.data.prefetch import Prefetcher, SpanReader
from lockstep.data.reading.sample_trees import add_value
from lockstep.data.samples.content_digests import rows_digest
from lockstep.data.samples.samples import NUM_DIGESTED, Samples, spread_ids
from lockstep.plan import Plan

CPU = torch.device("cpu")
DIGEST_SIZE = 4096  # samples read at a time for a digest: a set on disk may be larger than memory


@dataclass(frozen=True, kw_only=True)
class ImageSamples(Samples):
    """Inputs are normalised pixels, float32 (batch, channels, size, size), targets labels, int64 (batch,)."""

    images: ImageStore | ImageFiles
    facts: ImageFacts | None = None
    """What was measured on the training images; None for digits, which share one mean and deviation."""
    device: torch.device = CPU
    augment: Augment | None = None
    """How training images are changed."""
    config: DataConfig = field(default_factory=DataConfig)
    """Says which processes prefetch images from files."""

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> ImageSamples:
        images = self.images if isinstance(self.images, ImageFiles) else self.images.to(device)
        return replace(self, images=images, device=device)

    @property
    def is_read_ahead(self) -> bool:
        return isinstance(self.images, ImageFiles)

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = self.images.read(ids)
        return self._normalise()(pixels.to(self.device)), labels.to(self.device)

    def _normalise(self) -> Callable[[Tensor], Tensor]:
        return self.facts.normaliser(self.device) if self.facts else normalised

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        spans: Iterable[Span]
        if isinstance(self.images, ImageFiles):
            reader = SpanReader(self.images, plan, rank, first_step)
            spans = closing.enter_context(Prefetcher(reader, self.device, self.config))
        else:
            spans = resident_spans(self.images.read, plan, rank, first_step, self.device)
        return windows(spans, plan, rank, first_step, prepare=self._normalise(), augment=self.augment)

    def update_digest(self, digest: hashlib._Hash) -> None:
        """All pixels and labels of digits, without torch: W&B's thread may call it while a step computes."""
        if self.facts is not None:
            update_image_digest(digest, len(self), StoredImages(images=self.images).__getitem__)
        else:
            update_digit_digest(digest, self.images)

    def content(self) -> dict[str, str]:
        if self.facts is None:
            return {}  # that of digits is of all
        assert isinstance(self.images, ImageStore)
        return {"pixels": rows_digest(self.images.images, self.images.labels)}

    def description(self) -> dict[str, Any]:
        return self.facts.as_json() if self.facts else {}

    def pictures(self, ids: Tensor) -> Tensor | None:
        pixels, _ = self.images.read(ids)
        return as_pictures(pixels.to("cpu"))


def as_pictures(pixels: Tensor) -> Tensor | None:
    """Pixels with the channels last, uint8 (batch, height, width, 1 or 3); of digits as they are.

    None if they have other channels than grey or colours.
    """
    if pixels.ndim == 3:
        return pixels
    return pixels.movedim(1, -1).contiguous() if pixels.shape[1] in (1, 3) else None


def update_digit_digest(digest: hashlib._Hash, images: ImageStore | ImageFiles) -> None:
    """Adds all pixels and labels."""
    for start in range(0, len(images), DIGEST_SIZE):
        for array in images.slice(start, start + DIGEST_SIZE):
            digest.update(np.ascontiguousarray(array).data)


def update_image_digest(
    digest: hashlib._Hash, count: int, sample: Callable[[int], tuple[Tensor, int]]
) -> None:
    """Adds a few samples, evenly spread: the same, wherever the images are kept."""
    for index in spread_ids(count, NUM_DIGESTED):
        add_value(digest, sample(index))
