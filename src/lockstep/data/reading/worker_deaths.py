"""How a process that reads data dies, and how its rank says so in one line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lockstep.errors import EXIT_FAILED, DataError

SMALL_BYTES = 10**9
"""Shared memory smaller than this may be why a worker died; containers often have 64 MB."""


@contextmanager
def reported_deaths() -> Iterator[None]:
    """Says in one line that a worker died. torch notices it by a signal, and raises wherever the program is.

    Raises:
        DataError: a worker died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        what = str(error).splitlines()[0].rstrip(". ")
        remedy = "if the machine was short of memory, lower data.num_workers"
        raise DataError(
            f"a process that reads the data has died: {what}; {remedy}{shared_memory()}"
        ) from None


def shared_memory() -> str:
    """What to know of the memory through which workers hand over what they read, if there is little."""
    try:
        size = shutil.disk_usage("/dev/shm").total
    except OSError:
        return ""
    if size >= SMALL_BYTES:
        return ""
    return f"; /dev/shm has only {size / 1e6:.0f} MB: make it larger (docker run --shm-size 2g)"


def end_worker(error: Exception, item: Any) -> None:
    """Ends a worker that cannot send an item; torch then notices that the worker has died."""
    print(f"lockstep: a process that reads the data cannot send it: {error}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)
