"""The metrics of a whole data set: loss, accuracy, confusion matrix, worst mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lockstep.config import NUM_CLASSES


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model makes of each sample of a set, in the order of the samples. The same on every rank."""

    step: int
    """Optimizer steps done before this evaluation."""
    losses: torch.Tensor
    """The loss of each sample, float32 (samples,)."""
    predictions: torch.Tensor
    """The class with the largest logit, int64 (samples,)."""
    confidences: torch.Tensor
    """Softmax probability of the prediction, float32 (samples,)."""
    labels: torch.Tensor
    """The true class, int64 (samples,)."""

    @property
    def num_samples(self) -> int:
        return len(self.losses)

    @property
    def loss(self) -> float:
        """Mean loss over the samples, summed in float64."""
        return self.losses.double().mean().item()

    @property
    def num_correct(self) -> int:
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Fraction of the samples that are classified correctly, from 0 to 1."""
        return self.num_correct / self.num_samples

    @property
    def confusion(self) -> torch.Tensor:
        """Number of samples by label and prediction, int64 (label, prediction)."""
        cells = self.labels * NUM_CLASSES + self.predictions
        return cells.bincount(minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)

    def worst_mistakes(self, count: int) -> list[int]:
        """Indices of misclassified samples, the highest loss first, at most `count` of them."""
        wrong = (self.predictions != self.labels).nonzero().flatten()
        return wrong[self.losses[wrong].argsort(descending=True, stable=True)][:count].tolist()

    def summary(self) -> dict[str, Any]:
        """The metrics as JSON values."""
        return {
            "test_accuracy": self.accuracy,
            "test_loss": self.loss,
            "test_samples": self.num_samples,
            "confusion": self.confusion.tolist(),
        }
