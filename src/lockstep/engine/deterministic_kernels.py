"""Asks torch for kernels that repeat their bits, and names the operation that has none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lockstep.errors import refuse, require

CUBLAS_WORKSPACES = (":4096:8", ":16:8")
"""The values of CUBLAS_WORKSPACE_CONFIG with which cuBLAS repeats its bits."""
_NO_DETERMINISTIC_FORM = re.compile(r"(\S+) does not have a deterministic implementation")


def use_deterministic_kernels(*, allow_nondeterministic: bool) -> None:
    """Asks for the same kernels in the same order every time; call it once the user's modules are imported.

    Args:
        allow_nondeterministic: whether torch only warns of an operation that has no deterministic form.

    Raises:
        ConfigError: the environment asks cuBLAS for what does not repeat its bits.
    """
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
    rule = f"exact reduction needs {' or '.join(CUBLAS_WORKSPACES)}; unset it, or use --reduction fast"
    require(workspace in CUBLAS_WORKSPACES, "CUBLAS_WORKSPACE_CONFIG", workspace, rule)
    torch.use_deterministic_algorithms(True, warn_only=allow_nondeterministic)
    # Nothing here reads memory before writing it, so there is no need to fill it with NaN.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # A user's module may have switched it on: each rank would time kernels, and choose its own.
    torch.backends.cudnn.benchmark = False


@contextmanager
def refused_nondeterminism() -> Iterator[None]:
    """Turns torch's error about an operation without a deterministic form into a line that names it.

    Raises:
        ConfigError: there was one.
    """
    try:
        yield
    except RuntimeError as error:
        match = _NO_DETERMINISTIC_FORM.match(str(error))
        if match is None:
            raise
        rule = (
            f"{match[1]} has no deterministic form on this device; use another operation, or accept bits "
            "that no run repeats: --train.allow-nondeterministic"
        )
        raise refuse("reduction", "exact", rule) from error
