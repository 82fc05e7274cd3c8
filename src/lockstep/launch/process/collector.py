"""Python's garbage collector and the quarter million objects of torch, which live as long as a process."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_at_once() -> Iterator[None]:
    """Collects nothing while the block imports: the collector would look at all of it again and again.

    It takes a tenth of the time that importing torch and Accelerate takes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def exit_at_once() -> None:
    """Lets the process end without a last look at all objects, which takes half a second after a training."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
