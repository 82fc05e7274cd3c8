"""A disk that is full, or cannot be written, as one line: which disk, how much is needed. No torch."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from lockstep.config import PASSING, error_text
from lockstep.errors import RunStopped

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM)
STOPPING = (*FULL, *PASSING, *DENIED, errno.EROFS)
"""What is about the disk and not about the program. Linux makes a disk with errors read-only."""


def written(path: Path, num_bytes: int, write: Callable[[], None]) -> None:
    """Writes a file or folder of a run.

    Args:
        path: what is written.
        num_bytes: how large it will be.
        write: writes it.

    Raises:
        RunStopped: the disk is full, the user's quota on it is used up, or it cannot be written: not for
            now, or not by this user.
    """
    try:
        write()
    except OSError as error:
        if error.errno not in STOPPING:
            raise
        disk = disk_of(path)
        again = "then run the same command again to resume from the newest checkpoint"
        if error.errno not in FULL:
            remedy = (
                f"{'make it writable' if error.errno in DENIED else f'check the disk at {disk}'}, {again}"
            )
            raise RunStopped(f"{path} cannot be written ({error_text(error)}); {remedy}") from error
        raise RunStopped(
            f"{path} cannot be written ({error_text(error)}): it needs {_size(num_bytes)}, and "
            f"{_size(shutil.disk_usage(disk).free)} are free on {disk}; free some there, {again}"
        ) from error


def disk_of(path: Path) -> Path:
    """Where the disk is mounted that holds a path; the path itself need not exist."""
    folder = Path(os.path.realpath(path))
    while not os.path.ismount(folder):
        folder = folder.parent
    return folder


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes:,} bytes"
