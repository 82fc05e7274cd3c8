"""What becomes of each buffer that a model changes in its training forward, such as batch statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
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
        ConfigError: no rule says that a floating buffer may be averaged.
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
                f"does not name buffer {name!r}, which the training forward of "
                f"{type(model.get_submodule(module)).__name__} changes; name it if it may hold the average "
                "over micro-batches, else keep the change out of the training forward",
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
