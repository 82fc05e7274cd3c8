"""When Python's garbage collector may run, and what it may not touch."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_pausing = threading.Lock()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps the collector from running during a block, in any thread."""
    with _pausing:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


@contextmanager
def imported_at_once() -> Iterator[None]:
    """Keeps the collector away from what the block imports, torch among it.

    It would look at the quarter million objects of torch again and again, which live as long as the process:
    for a tenth of the time of the imports, and for half a second as the process ends.
    """
    is_first = "torch" not in sys.modules
    with collector_paused():
        yield
    if is_first:  # otherwise it is a program's own objects that would never be collected
        gc.freeze()


def leave_inherited_garbage() -> None:
    """To be called first in a fork that was made while the collector was paused: it never frees what it has.

    Process groups of an earlier run may be among that garbage. Freeing one waits for its threads, which the
    fork does not have, and so for ever.
    """
    gc.freeze()
    gc.enable()
