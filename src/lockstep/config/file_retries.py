"""Tries again what a disk refuses for a moment, such as one on a network whose server starts. No torch."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lockstep.errors import ConfigError

T = TypeVar("T")
PASSING = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY),
    *(errno.ENOTCONN, errno.ESHUTDOWN),
)
"""What may be over in a moment. Any other error, such as a lack of permission, is raised at once."""
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What looking at a path gives if nothing is there: the last one for a link that leads to itself."""
PAUSES_SECONDS = (0.25, 0.75, 2.0, 5.0)
"""How long to wait before each further try: eight seconds in all."""


def with_retries(path: Path, action: Callable[[], T]) -> T:
    """What an action returns that reads or writes a path; tried again, with a line, after a `PASSING` error.

    Args:
        path: for the line.
        action: is called from its beginning at each try.

    Raises:
        OSError: the action's last one; it names the path.
    """
    try:
        return _with_retries(path, action)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # that of a failed read, unlike that of a failed open, names nothing
        raise


def _with_retries(path: Path, action: Callable[[], T]) -> T:
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


class NoFile(OSError):
    """A folder, a pipe or a device is where a file belongs. Of the latter two, a read may never end."""


def read_file(path: Path) -> bytes:
    """The bytes of a file, or of one that a link leads to; tried again.

    Raises:
        NoFile: it is none.
        OSError: it cannot be read.
    """

    def read() -> bytes:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise NoFile(f"is a {'folder' if stat.S_ISDIR(mode) else 'pipe or a device'}")
        return path.read_bytes()

    return with_retries(path, read)


def is_file(path: Path) -> bool:
    """Whether a path is a file, or a link to one.

    `Path.is_file` does not try again, and from Python 3.14 on takes a file that it cannot look at for none.

    Raises:
        ConfigError: nobody knows: a folder on the way cannot be searched, or its disk does not answer.
    """
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, or a link to one; see `is_file`."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """The kind and the permissions of what a path leads to; 0 if there is nothing."""
    try:
        return with_retries(path, lambda: os.stat(path)).st_mode
    except OSError as error:
        if error.errno in ABSENT:
            return 0
        raise unreadable(error) from error


def unreadable(error: OSError) -> ConfigError:
    """The error for a file or folder that cannot be read, which does not mean that it is damaged.

    Args:
        error: of `with_retries`; or one without a number, whose text says all.
    """
    if error.errno is None:
        return ConfigError(str(error))
    return ConfigError(f"{error.filename}: cannot be read ({error_text(error)}); make it readable")


def error_text(error: OSError) -> str:
    """An error of the system with its name, such as 'Stale file handle, ESTALE'."""
    name = errno.errorcode.get(error.errno or 0, "")
    return ", ".join(filter(None, [error.strerror or str(error), name]))
