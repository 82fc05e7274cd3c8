"""Finds where in a model a number stops being finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def floating_tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module returned."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from floating_tensors(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from floating_tensors(entry)


@contextmanager
def record_non_finite(model: nn.Module) -> Iterator[list[str]]:
    """Yields a list that collects, in order of computation, which outputs and gradients are not finite."""
    origins: list[str] = []
    hooks = []

    def forward_hook(name: str) -> Any:
        def check(module: nn.Module, inputs: object, output: Any) -> None:
            if not all(tensor.isfinite().all() for tensor in floating_tensors(output)):
                origins.append(f"the output of {name} ({type(module).__name__})")

        return check

    def gradient_hook(name: str) -> Any:
        def check(gradient: Tensor) -> None:
            if not gradient.isfinite().all():
                origins.append(f"the gradient of {name}")

        return check

    for name, module in model.named_modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(forward_hook(name or "the model")))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hooks.append(parameter.register_hook(gradient_hook(name)))
    try:
        yield origins
    finally:
        for hook in hooks:
            hook.remove()
