"""A model's buffers over a step: each micro-batch starts from the same ones, and what all leave is combined.

So a forward may change buffers (batch statistics, power iterations, counters) and the model still ends a step
with the same bits on any topology. Floating ones are averaged over the micro-batches in the reduction's own
tree; integers take the value that every micro-batch left; what is not persistent starts each micro-batch as
it started the run. What no forward changes is not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lockstep.errors import refuse

AVERAGED_MODULES = (nn.modules.batchnorm._NormBase,)
"""Modules whose floating buffers are running means: batch and instance normalisation."""


@dataclass(frozen=True, kw_only=True)
class BufferRules:
    """Names of the buffers that a forward in training mode changes, by what becomes of them."""

    averaged: tuple[str, ...] = ()
    agreed: tuple[str, ...] = ()
    """Integers and booleans."""
    reset: tuple[str, ...] = ()
    """Not persistent, so in no checkpoint."""

    @property
    def changed(self) -> tuple[str, ...]:
        return self.averaged + self.agreed + self.reset


def buffer_rules(model: nn.Module, changed: Iterable[str], average_buffers: tuple[str, ...]) -> BufferRules:
    """Decides what becomes of each buffer that a forward changes.

    Args:
        model: has the buffers.
        changed: their dotted names.
        average_buffers: names or patterns (such as 'encoder.*') of those that may be averaged although no
            rule of ours says so.

    Raises:
        ConfigError: a floating buffer is none that an average is right for.
    """
    persistent = model.state_dict(keep_vars=True).keys()
    averaged, agreed, reset = [], [], []
    for name in changed:
        module, _, _ = name.rpartition(".")
        if name not in persistent:
            reset.append(name)
        elif not find_buffer(model, name).is_floating_point() and not find_buffer(model, name).is_complex():
            agreed.append(name)
        elif _is_averaged(model, module) or any(fnmatchcase(name, each) for each in average_buffers):
            averaged.append(name)
        else:
            raise refuse(
                "model.average_buffers",
                average_buffers,
                f"does not name buffer {name!r}, which every training forward of "
                f"{type(model.get_submodule(module)).__name__} changes; name it if the average over micro-batches "
                "is what it should hold, else keep the change out of the training forward",
            )
    return BufferRules(averaged=tuple(averaged), agreed=tuple(agreed), reset=tuple(reset))


def _is_averaged(model: nn.Module, module_name: str) -> bool:
    module = model.get_submodule(module_name)
    is_spectral_norm = type(module).__name__ == "_SpectralNorm" or any(
        type(hook).__name__ == "SpectralNorm" for hook in module._forward_pre_hooks.values()
    )
    return isinstance(module, AVERAGED_MODULES) or is_spectral_norm


def find_buffer(model: nn.Module, name: str) -> Tensor:
    """A buffer by its dotted name as it is now: a forward may have put another tensor in its place."""
    module, _, leaf = name.rpartition(".")
    buffer = model.get_submodule(module)._buffers[leaf]
    assert buffer is not None
    return buffer


@contextmanager
def restored_buffers(model: nn.Module) -> Iterator[None]:
    """Puts the values of all buffers back when the block ends."""
    start = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        restore_buffers(model, start)


def restore_buffers(model: nn.Module, start: dict[str, Tensor]) -> None:
    """Copies values to the buffers of their names, as they are now; what has not changed is not touched."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in start and not torch.equal(buffer, start[name]):
                buffer.copy_(start[name])


class StepBuffers:
    """The changing buffers of one model, from the start of a step to its end."""

    def __init__(self, model: nn.Module, rules: BufferRules) -> None:
        self.rules = rules
        owners = [(name, *name.rpartition(".")[::2]) for name in rules.changed]
        self._owners = [(model.get_submodule(module), leaf) for _, module, leaf in owners]
        self._num_averaged = len(rules.averaged)
        self._start: list[Tensor] = []
        self._agreed: list[Tensor] | None = None
        self._is_fresh = True  # whether the buffers are still those of the step's start
        self._disagreements: list[Tensor] = []
        self._transient = [value.clone() for value in self._current()[len(rules.averaged + rules.agreed) :]]

    def averaged(self) -> list[Tensor]:
        """The buffers that are averaged, as they are now."""
        return self._current()[: self._num_averaged]

    def begin_step(self) -> None:
        """Keeps the values that every micro-batch of the step starts from."""
        kept = len(self.rules.averaged) + len(self.rules.agreed)
        self._start = [value.clone() for value in self._current()[:kept]] + self._transient
        self._agreed, self._is_fresh = None, True

    def begin_micro_batch(self) -> None:
        """Puts back what the micro-batch before has changed."""
        if self._is_fresh:
            self._is_fresh = False
            return
        for value, start in zip(self._current(), self._start, strict=True):
            value.copy_(start)

    def end_micro_batch(self) -> list[Tensor]:
        """After the backward, which may change buffers too: copies of those that are to be averaged."""
        current = self._current()
        agreed = self._current_agreed()
        if self._agreed is None:
            self._agreed = [value.clone() for value in agreed]
        else:
            self._disagreements += [
                (value != first).any() for value, first in zip(agreed, self._agreed, strict=True)
            ]
        return [value.clone() for value in current[: self._num_averaged]]

    def end_step(self, sums: list[Tensor], num_micro_batches: int) -> None:
        """Leaves the model with the combined buffers.

        Args:
            sums: of the averaged buffers over all micro-batches of the global batch.
            num_micro_batches: how many these are.
        """
        current = self._current()
        for value, total in zip(current, sums, strict=False):
            value.copy_(total / num_micro_batches)
        for value, left in zip(current[self._num_averaged :], self._agreed or [], strict=False):
            value.copy_(left)
        for value, start in zip(current[len(current) - len(self._transient) :], self._transient, strict=True):
            value.copy_(start)

    def disagreement(self) -> str:
        """An integer buffer in which two micro-batches of this rank left different values; empty if none.

        Covers the steps since the last call, and waits for the device.
        """
        flags, self._disagreements = self._disagreements, []
        if not flags or not (differs := torch.stack(flags)).any():
            return ""
        return self.rules.agreed[int(differs.nonzero()[0]) % len(self.rules.agreed)]

    def share_agreed(self) -> None:
        """Gives every rank the main rank's integers: at the end of an epoch some ranks have no micro-batch."""
        values = self._agreed or [value.clone() for value in self._current_agreed()]
        for value in values:
            dist.broadcast(value, src=0)
        self._agreed = values

    def _current_agreed(self) -> list[Tensor]:
        return self._current()[self._num_averaged : self._num_averaged + len(self.rules.agreed)]

    def _current(self) -> list[Tensor]:
        values = [module._buffers[leaf] for module, leaf in self._owners]
        return [value for value in values if value is not None]
