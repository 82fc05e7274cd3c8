"""Spans of a training set that stays on disk: worker processes prefetch them in the order of the plan.

A worker knows the plan and works out what to read, so the main process holds no sample order and sends
nothing. Workers send uint8 pixels only. All computing is done on the device, as for a resident set.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lockstep.config import DataConfig, unreadable
from lockstep.data.batches import Span, without_padding
from lockstep.data.images.image_store import ImageFiles
from lockstep.data.reading.workers import ReadFailure, Workers
from lockstep.plan import Plan

SPAN_SAMPLES = 2048
"""About how many samples a worker hands over together, 1.6 MB of pixels: enough to pay for the hand-over."""

Arrays = tuple[Tensor, Tensor, Tensor]
"""Sample ids (steps, window, micro), images (steps, window, micro, 28, 28), labels (steps, window, micro)."""


class SpanReader(IterableDataset[Arrays | ReadFailure]):
    """Read by the workers of one rank, which take turns: its spans from a step on, without end."""

    def __init__(self, files: ImageFiles, plan: Plan, rank: int, first_step: int) -> None:
        self.files, self.plan, self.rank, self.first_step = files, plan, rank, first_step

    def __iter__(self) -> Iterator[Arrays | ReadFailure]:
        worker = get_worker_info()
        turn, num_turns = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        spans = self.plan.spans(self.first_step, SPAN_SAMPLES)
        for steps in islice(spans, turn, None, num_turns):
            ids = torch.from_numpy(self.plan.span_ids(steps, self.rank))
            try:
                images, labels = self.files.read(without_padding(ids))
            except OSError as error:
                yield ReadFailure(message=str(unreadable(error)))
                return
            yield ids, images, labels


class Prefetcher(Workers):
    """The spans of a reader on the device, in order, which workers prefetch.

    Args:
        reader: reads the spans.
        device: of the spans.
        config: says how many workers there are, and how they start.
    """

    def __init__(self, reader: SpanReader, device: torch.device, config: DataConfig) -> None:
        super().__init__(reader, None, config, device)

    def __next__(self) -> Span:
        """Raises DataError, if the files cannot be read, or a worker died."""
        ids, images, labels = super().__next__()
        return Span(ids=ids, windows=zip(images, labels, strict=True))
