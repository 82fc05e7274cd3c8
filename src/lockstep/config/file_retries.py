"""Tries again what a disk refuses for a moment, such as one on a network whose server starts. No torch."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PASSING = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY),
    *(errno.ENOTCONN, errno.ESHUTDOWN),
)
"""What may be over in a moment. Any other error, such as a lack of permission, is raised at once."""
PAUSES_SECONDS = (0.25, 0.75, 2.0, 5.0)
"""How long to wait before each further try: eight seconds in all."""


def with_retries(path: Path, action: Callable[[], T]) -> T:
    """What an action returns that reads or writes a path; tried again, with a line, after a `PASSING` error.

    Args:
        path: for the line.
        action: is called from its beginning at each try.

    Raises:
        OSError: the action's last one.
    """
    for number, seconds in enumerate(PAUSES_SECONDS):
        try:
            return action()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            if number == 0:
                print(f"lockstep: {path}: {error_text(error)}; trying again", file=sys.stderr, flush=True)
            time.sleep(seconds)
    return action()


def error_text(error: OSError) -> str:
    """An error of the system with its name, such as 'Stale file handle, ESTALE'."""
    name = errno.errorcode.get(error.errno or 0, "")
    return ", ".join(filter(None, [error.strerror or str(error), name]))
