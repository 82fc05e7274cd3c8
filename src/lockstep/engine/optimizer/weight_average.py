"""The exponential moving average of the trained parameters, for `train.ema`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages of the trained parameters over the updates. Buffers and frozen parameters are the run's own.

    After update t, counted from 1, and from the initial weights on:

        average = decay_t * average + (1 - decay_t) * weights,  decay_t = min(decay, (1 + t) / (10 + t))

    The smaller decay of the first updates lets the average forget the initial weights, which a short run
    would otherwise keep; it is that of TensorFlow's `tf.train.ExponentialMovingAverage`. The update itself is
    that of torch's `torch.optim.swa_utils.get_ema_multi_avg_fn`: each value depends on its own weight alone,
    so all ranks compute the same bits. Averages of half-precision parameters are float32. Extra memory: one
    copy of the trained parameters, and another one during an evaluation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._trained = [each for each in model.parameters() if each.requires_grad]
        self._averages = [each.detach().to(_wide(each.dtype), copy=True) for each in self._trained]

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """To be called after each update of the weights; `num_updates` includes it."""
        torch._foreach_lerp_(self._averages, self._weights(), self.weight(num_updates))

    @torch.no_grad()
    def update_unless(self, is_skipped: Tensor, weight: Tensor) -> None:
        """The same with what only the device knows.

        Args:
            is_skipped: not 0 if the weights were not updated, (); then nothing changes.
            weight: as `weight` gives it, ().
        """
        is_skipped = is_skipped.bool()
        for own, each in zip(self._averages, self._weights(), strict=True):
            torch.where(is_skipped, own, torch.lerp(own, each, weight.to(own.dtype)), out=own)

    def weight(self, num_updates: int) -> float:
        """The weight 1 - decay_t of the weights in their average after update t."""
        return 1 - min(self._decay, (1 + num_updates) / (10 + num_updates))

    def _weights(self) -> list[Tensor]:
        return [each.detach().to(own.dtype) for each, own in zip(self._trained, self._averages, strict=True)]

    def state_dict(self) -> dict[str, Tensor]:
        """The model's state dict with the averages in place of the trained parameters, by name."""
        state = self._model.state_dict(keep_vars=True)
        return {name: value.detach() for name, value in state.items()} | self.named()

    def named(self) -> dict[str, Tensor]:
        """The averages alone, by the names of their parameters; tied ones have each of theirs."""
        averages = {id(each): own for each, own in zip(self._trained, self._averages, strict=True)}
        state = self._model.state_dict(keep_vars=True)
        return {name: averages[id(value)] for name, value in state.items() if id(value) in averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes the averages from what `state_dict` gave; the rest of it is the run's own."""
        for name, own in self.named().items():
            own.copy_(state[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the model the averages as its weights until the block ends, for an evaluation."""
        with torch.no_grad():
            weights = [each.detach().clone() for each in self._trained]
            _copy(self._averages, self._trained)
        try:
            yield
        finally:
            with torch.no_grad():
                _copy(weights, self._trained)


def _copy(sources: list[Tensor], targets: list[nn.Parameter]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, in which the small steps of an average would be rounded away."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
