"""Dropout whose masks do not depend on the topology."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lockstep.errors import refuse
from lockstep.plan import Purpose, random_words, uniform


class KeyedDropout(nn.Module):
    """Dropout whose mask is a pure function of (seed, layer, step, sample id), the same on any topology.

    The loop calls `draw_for` before each forward. Like torch's, it does nothing in evaluation.

    Args:
        p: the probability that a unit is set to 0, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._key: tuple[int, int, int, Tensor] | None = None

    def draw_for(self, seed: int, layer: int, step: int, ids: Tensor) -> None:
        """Says for which samples in which step the next forward draws masks.

        Args:
            seed: of the run.
            layer: the index of this layer among the model's dropout layers.
            step: counted from 0.
            ids: sample ids, int64 (batch,).
        """
        vars(self)["_key"] = (seed, layer, step, ids)  # skips nn.Module's checks, which take longer

    def forward(self, x: Tensor) -> Tensor:
        """Sets a fraction p of the units (batch, units) to 0 and scales the rest by 1 / (1 - p).

        Raises:
            ConfigError: the input has another shape.
        """
        if x.dim() != 2:
            raise refuse("KeyedDropout's input", tuple(x.shape), "must be (batch, units); flatten it first")
        if not self.training or self.p == 0:
            return x
        assert self._key is not None, "draw_for must be called before each forward"
        seed, layer, step, ids = self._key
        blocks = torch.arange(-(-x.shape[1] // 4), device=x.device)
        words = random_words(seed, Purpose.DROPOUT + layer, step, ids.clamp(min=0)[:, None], blocks[None])
        draws = uniform(torch.stack(words, dim=2).flatten(1))[:, : x.shape[1]]  # (batch, units)
        return x * (draws >= self.p) / (1 - self.p)


def draw_masks(dropouts: list[KeyedDropout], seed: int, step: int, ids: Tensor) -> None:
    """States to the dropout layers of a model, in the order of its modules, which masks they draw next."""
    for layer, dropout in enumerate(dropouts):
        dropout.draw_for(seed, layer, step, ids)
