"""Which checkpoint is the best by the validation set, and whether it is time to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lockstep.data import Chunks, Samples


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """Samples that are scored, and this rank's part of them."""

    split: str
    """'validation' or 'test'."""
    samples: Samples
    chunks: Chunks


@dataclass(kw_only=True)
class Selection:
    """The choice of the best checkpoint so far. It is part of the state of a run, the same on every rank."""

    best_score: float = -math.inf
    """The highest `Evaluation.score` on the validation set."""
    num_since_best: int = 0
    """Evaluations since then, none of which was better."""

    def add(self, score: float) -> None:
        """Takes a new score into account; an equal one is not better."""
        if score > self.best_score:
            self.best_score, self.num_since_best = score, 0
        else:
            self.num_since_best += 1

    def is_exhausted(self, patience: int) -> bool:
        """Whether so many evaluations in a row (0: any number) were no better."""
        return 0 < patience <= self.num_since_best
