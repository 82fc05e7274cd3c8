"""Seeds every generator that a model, a loss or a data set may draw from: Python's, NumPy's and torch's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lockstep.plan import derive_seed

BITS = 0xFFFFFFFF
"""Of a seed, what NumPy takes."""


def seed_generators(device: torch.device, seed: int, purpose: str, *position: int) -> None:
    """Seeds Python's, NumPy's and torch's global generators, the device's included: about 10 us.

    What is drawn until the next call is then a pure function of the arguments: the same on any rank, in any
    process, after any resume. `torch.manual_seed` would visit every kind of device, at ten times the price.

    Args:
        device: whose generator is seeded as well as the CPU's.
        seed: of the run.
        purpose: what is drawn; see `derive_seed`.
        position: where, such as (step, slot).
    """
    value = derive_seed(seed, purpose, *position)
    seed_host_generators(value)
    if device.type == "cuda":
        torch.cuda.init()  # does nothing after the first time; before it, there are no generators
        torch.cuda.default_generators[device.index or 0].manual_seed(value)


def seed_host_generators(value: int) -> None:
    """Seeds Python's, NumPy's and torch's global generators of the CPU."""
    random.seed(value)
    np.random.seed(value & BITS)
    torch.default_generator.manual_seed(value)


def generator_states(device: torch.device) -> tuple[object, ...]:
    """The states of every global generator; two that compare equal mean that nothing was drawn in between."""
    on_device = torch.cuda.get_rng_state(device).tolist() if device.type == "cuda" else None
    numpy = np.random.get_state()
    return (
        random.getstate(),
        [each.tolist() if isinstance(each, np.ndarray) else each for each in numpy],
        torch.default_generator.get_state().tolist(),
        on_device,
    )


@contextmanager
def restored_generators(device: torch.device) -> Iterator[None]:
    """Puts the state of every global generator back when the block ends."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(cpu)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)


class DrawWatch:
    """Notices that something draws from Python's or NumPy's global generator.

    A copy runs beside each of them: both give the same number, unless something else has drawn.
    """

    def __init__(self) -> None:
        self._python, self._numpy = random.Random(), np.random.RandomState()
        self._times = 0
        self.has_noticed = False

    def restart(self) -> None:
        """Starts to watch, each time from other states: what looks at these without a draw, and depends on
        them, does not read the same twice."""
        random.seed(self._times)
        self._python.seed(self._times)
        np.random.seed(self._times)
        self._numpy.seed(self._times)
        self._times += 1

    def is_drawn(self) -> bool:
        """Whether something has drawn since then; wrong with a chance of 2**-53."""
        is_same = random.random() == self._python.random()
        self.has_noticed = not (is_same and np.random.random_sample() == self._numpy.random_sample())
        return self.has_noticed


MAX_ENTRIES = 64
"""A longer list or dict holds samples, not transforms."""


def seeded_transforms(dataset: Any) -> list[Any]:
    """The transforms that a data set holds and that have a `set_random_seed`, outermost only.

    albumentations 2 ignores the global generators: each of its transforms has generators of its own. They are
    looked for in attributes, at any depth: in lists and dicts, in a Compose, in a data set that is wrapped.
    """
    transforms: list[Any] = []
    seen: set[int] = set()
    waiting = [dataset]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, type | ModuleType | FunctionType | Tensor | np.ndarray):
            continue
        seen.add(id(value))
        if callable(getattr(value, "set_random_seed", None)):
            transforms.append(value)
        elif isinstance(value, dict | list | tuple):
            if len(value) <= MAX_ENTRIES:
                waiting += value.values() if isinstance(value, dict) else value
        else:
            waiting += vars(value).values() if hasattr(value, "__dict__") else ()
    return transforms
