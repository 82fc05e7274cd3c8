"""A model's buffers over a step: all micro-batches start from the same ones, and what they leave is combined.

A forward may change buffers (batch statistics, power iterations, counters), and the model still ends a step
with the same bits on any topology. Floating-point buffers are averaged over the micro-batches, in the tree of
the reduction. Integer buffers take the value that every micro-batch left. Buffers that are not persistent are
reset before each micro-batch. Buffers that no forward changes are not touched.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lockstep.engine.model_traits.buffers import BufferRules


class StepBuffers:
    """The changing buffers of one model, from the start of a step to its end."""

    def __init__(self, model: nn.Module, rules: BufferRules) -> None:
        self.rules = rules
        owners = [(name, *name.rpartition(".")[::2]) for name in rules.changed]
        self._owners = [(model.get_submodule(module), leaf) for _, module, leaf in owners]
        self._num_averaged = len(rules.averaged)
        self._start: list[Tensor] = []
        self._left: Tensor | None = None  # the integers that the first micro-batch left, (elements,)
        self._is_fresh = True  # whether the buffers are still those of the step's start
        self._disagreements: list[Tensor] = []
        self._transient = [value.clone() for value in self._current()[len(rules.averaged + rules.agreed) :]]

    def averaged(self) -> list[Tensor]:
        """The buffers that are averaged, as they are now."""
        return self._current()[: self._num_averaged]

    def begin_step(self) -> None:
        """Keeps the values that every micro-batch of the step starts from."""
        kept = len(self.rules.averaged) + len(self.rules.agreed)
        if not self._start:
            self._start = [value.clone() for value in self._current()[:kept]] + self._transient
        else:
            _copy(self._current()[:kept], self._start[:kept])
        self._left, self._is_fresh = None, True

    def begin_micro_batch(self) -> None:
        """Puts back what the micro-batch before has changed."""
        if self._is_fresh:
            self._is_fresh = False
            return
        _copy(self._start, self._current())

    def end_micro_batch(self) -> list[Tensor]:
        """After the backward, which may change buffers too: those to be averaged, until the next forward."""
        if agreed := self._current_agreed():
            left = _flattened(agreed)
            if self._left is None:
                self._left = left
            else:
                self._disagreements.append(left != self._left)
        return self.averaged()

    def end_step(self, sums: list[Tensor], num_micro_batches: int) -> None:
        """Leaves the model with the combined buffers.

        Args:
            sums: of the averaged buffers over all micro-batches of the global batch.
            num_micro_batches: how many these are.
        """
        combined = list(torch._foreach_div(sums, num_micro_batches)) if sums else []
        if self._left is not None:
            agreed = self._current_agreed()
            parts = self._left.split([value.numel() for value in agreed])
            combined += [part.view(value.shape) for part, value in zip(parts, agreed, strict=True)]
        current = self._current()
        _copy(combined, current[: len(combined)])
        _copy(self._transient, current[len(current) - len(self._transient) :])

    def disagreement(self) -> str:
        """An integer buffer in which two micro-batches of this rank left different values; empty if none.

        Covers the steps since the last call, and waits for the device.
        """
        flags, self._disagreements = self._disagreements, []
        if not flags or not (differs := torch.stack(flags).any(dim=0)).any():
            return ""
        sizes = [value.numel() for value in self._current_agreed()]
        parts = differs.split(sizes)
        return next(name for name, part in zip(self.rules.agreed, parts, strict=True) if part.any())

    def share_agreed(self) -> None:
        """Copies the main rank's integers to every rank: at the end of an epoch some have no micro-batch."""
        if agreed := self._current_agreed():
            self._left = _flattened(agreed) if self._left is None else self._left
            dist.broadcast(self._left, src=0)

    def _current_agreed(self) -> list[Tensor]:
        return self._current()[self._num_averaged : self._num_averaged + len(self.rules.agreed)]

    def _current(self) -> list[Tensor]:
        values = [module._buffers[leaf] for module, leaf in self._owners]
        return [value for value in values if value is not None]


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    """Copies tensors over others.

    A launch for each dtype on CUDA, where a list of several dtypes would take one for each tensor.
    """
    pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        own_targets, own_sources = pairs.setdefault(target.dtype, ([], []))
        own_targets.append(target)
        own_sources.append(source)
    for own_targets, own_sources in pairs.values():
        torch._foreach_copy_(own_targets, own_sources)


def _flattened(values: list[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values])
