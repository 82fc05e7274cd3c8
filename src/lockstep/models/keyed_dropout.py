"""Dropout whose masks do not depend on the topology."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lockstep.errors import refuse
from lockstep.plan import Purpose, random_words, uniform


class KeyedDropout(nn.Module):
    """Dropout whose mask is a pure function of (seed, layer, step, sample id): the same on any topology.

    The loop calls `draw_for` before each forward; in evaluation it does nothing, like torch's.
    """

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part = part
        self._key: tuple[int, int, int, Tensor] | None = None

    def draw_for(self, seed: int, layer: int, step: int, ids: Tensor) -> None:
        """States whose masks the next forward draws: sample ids (batch,) in a step."""
        vars(self)["_key"] = (seed, layer, step, ids)  # past nn.Module's search for parameters and buffers

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, units) to the same, a part of the units at 0 and the rest scaled up.

        Raises:
            ConfigError: the input has another shape.
        """
        if x.dim() != 2:
            raise refuse("KeyedDropout's input", tuple(x.shape), "must be (batch, units); flatten it first")
        if not self.training or self.part == 0:
            return x
        assert self._key is not None, "draw_for comes before each forward"
        seed, layer, step, ids = self._key
        blocks = torch.arange(-(-x.shape[1] // 4), device=x.device)
        words = random_words(seed, Purpose.DROPOUT + layer, step, ids.clamp(min=0)[:, None], blocks[None])
        draws = uniform(torch.stack(words, dim=2).flatten(1))[:, : x.shape[1]]  # (batch, units)
        return x * (draws >= self.part) / (1 - self.part)


def draw_masks(dropouts: list[KeyedDropout], seed: int, step: int, ids: Tensor) -> None:
    """States to the dropout layers of a model, in the order of its modules, which masks they draw next."""
    for layer, dropout in enumerate(dropouts):
        dropout.draw_for(seed, layer, step, ids)
