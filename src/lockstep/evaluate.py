"""Exact metrics over a sharded set: every sample is scored once, on whatever topology."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lockstep.batches import normalised
from lockstep.data import ImageStore
from lockstep.losses import Criterion
from lockstep.models import NUM_CLASSES
from lockstep.ranks import Ranks

# Samples scored together. Fixed, so that a sample's score has the same bits on any number of ranks; it also
# sets how finely the work divides: 10 000 samples are 40 chunks.
CHUNK_SIZE = 250


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a whole set, in the order of its samples; the same on every rank."""

    losses: torch.Tensor
    """The criterion's value for each sample, float32 (samples,)."""
    predictions: torch.Tensor
    """int64 (samples,)."""
    confidences: torch.Tensor
    """Softmax probability of the prediction, float32 (samples,)."""
    labels: torch.Tensor
    """int64 (samples,)."""

    @property
    def num_samples(self) -> int:
        return len(self.losses)

    @property
    def loss(self) -> float:
        """Mean over samples, added in float64."""
        return self.losses.double().mean().item()

    @property
    def num_correct(self) -> int:
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Part of the samples whose largest logit is the label's, from 0 to 1."""
        return self.num_correct / self.num_samples

    @property
    def confusion(self) -> torch.Tensor:
        """Counts, int64 (label, prediction)."""
        cells = self.labels * NUM_CLASSES + self.predictions
        return cells.bincount(minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)

    def worst_mistakes(self, count: int) -> list[int]:
        """Places of the wrongly classified samples, the highest loss first, at most `count` of them."""
        wrong = (self.predictions != self.labels).nonzero().flatten()
        return wrong[self.losses[wrong].argsort(descending=True, stable=True)][:count].tolist()

    def summary(self) -> dict[str, Any]:
        """The scores of the whole set, as JSON values."""
        return {
            "test_accuracy": self.accuracy,
            "test_loss": self.loss,
            "test_samples": self.num_samples,
            "confusion": self.confusion.tolist(),
        }


def evaluate(model: nn.Module, criterion: Criterion, store: ImageStore, ranks: Ranks) -> Evaluation:
    """Scores every sample of a store once. All ranks must call it.

    Chunks go round the ranks in turn, the last ones padded to full shape and to equal numbers; padding is cut
    off after the gather, by position.
    """
    num_samples = len(store)
    chunks_per_rank = -(-num_samples // (CHUNK_SIZE * ranks.world_size))
    chunks = torch.arange(ranks.rank, chunks_per_rank * ranks.world_size, ranks.world_size)
    scores = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chunk in chunks.tolist():
            ids = torch.arange(chunk * CHUNK_SIZE, (chunk + 1) * CHUNK_SIZE, device=store.labels.device)
            pixels, labels = store.read(ids.clamp(max=num_samples - 1))
            logits = model(normalised(pixels))
            losses = criterion(logits, labels)
            predictions = logits.argmax(dim=1)
            confidences = logits.float().softmax(dim=1).gather(1, predictions[:, None])[:, 0]
            # float32 holds a class number exactly, so that one gather carries all three.
            scores.append(torch.stack([losses.float(), predictions.float(), confidences], dim=1))
    model.train(was_training)
    gathered = ranks.gather(torch.stack(scores))  # (world * chunks_per_rank, CHUNK_SIZE, 3), by rank
    by_rank = gathered.reshape(ranks.world_size, chunks_per_rank, CHUNK_SIZE, 3)
    in_order = by_rank.transpose(0, 1).reshape(-1, 3)[:num_samples]
    return Evaluation(
        losses=in_order[:, 0],
        predictions=in_order[:, 1].long(),
        confidences=in_order[:, 2],
        labels=store.labels.to("cpu"),
    )
