"""Python's garbage collector and the quarter million objects of torch, which live as long as a process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_at_once() -> Iterator[None]:
    """Keeps the collector away from what the block imports, torch among it.

    It would look at all of it again and again: for a tenth of the time of the imports, and for half a second
    as the process ends.
    """
    was_enabled, is_first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        if is_first:  # otherwise it is a program's own objects that would never be collected
            gc.freeze()
