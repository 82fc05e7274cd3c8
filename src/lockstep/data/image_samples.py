"""Grey images as samples: bytes that are on the device or streamed from disk, normalised on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from lockstep.config import DataConfig
from lockstep.data.augment import Augment
from lockstep.data.batches import MicroBatch, Span, normalised, resident_spans, windows
from lockstep.data.images import ImageFiles, ImageStore
from lockstep.data.prefetch import Prefetcher, SpanReader
from lockstep.data.samples import Samples
from lockstep.plan import Plan

CPU = torch.device("cpu")
DIGEST_SIZE = 4096  # samples read at a time for a digest: a set on disk may be larger than memory


@dataclass(frozen=True, kw_only=True)
class ImageSamples(Samples):
    """Inputs are normalised pixels, float32 (batch, 1, height, width), targets are labels, int64 (batch,)."""

    images: ImageStore | ImageFiles
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
        return normalised(pixels.to(self.device)), labels.to(self.device)

    def windows(
        self, plan: Plan, rank: int, first_step: int, closing: ExitStack
    ) -> Iterator[list[MicroBatch]]:
        spans: Iterable[Span]
        if isinstance(self.images, ImageFiles):
            reader = SpanReader(self.images, plan, rank, first_step)
            spans = closing.enter_context(Prefetcher(reader, self.device, self.config))
        else:
            spans = resident_spans(self.images.read, plan, rank, first_step, self.device)
        return windows(spans, plan, rank, first_step, prepare=normalised, augment=self.augment)

    def update_digest(self, digest: hashlib._Hash) -> None:
        """All pixels and labels, without torch: W&B's thread may call it while a step computes."""
        for start in range(0, len(self), DIGEST_SIZE):
            for array in self.images.slice(start, start + DIGEST_SIZE):
                digest.update(np.ascontiguousarray(array).data)

    def pictures(self, ids: Tensor) -> Tensor:
        pixels, _ = self.images.read(ids)
        return pixels.to("cpu")
