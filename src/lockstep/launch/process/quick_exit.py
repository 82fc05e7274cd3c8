"""How the process of a command ends: after its exit handlers, without freeing torch for half a second."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

_exit_code: int | None = None


def exit_quickly(code: int) -> None:
    """Lets this process end with a code after all exit handlers, and free no modules or libraries then."""
    global _exit_code
    if "coverage" not in sys.modules:  # its exit handler may be older than this module's
        _exit_code = code


def _leave() -> None:
    if _exit_code is None:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(_exit_code)


atexit.register(_leave)  # the first one registered is the last one called: import this module early
