"""How a process that reads data dies, and how its rank says so in one line."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
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


@contextmanager
def quiet_deaths() -> Iterator[None]:
    """Keeps torch's handler for dead workers away from a block that forks. `next` notices them anyway.

    Python drops an exception that a signal raises in what it calls around a fork. One of these calls releases
    the lock of `logging`, and other threads would wait for that lock for ever.
    """
    before = signal.getsignal(signal.SIGCHLD)
    is_torchs = getattr(before, "__module__", "").startswith("torch.")
    if not is_torchs or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


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
