"""A full disk as one line: which disk it is, how much is needed, how much is free. No torch."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lockstep.errors import RunStopped

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def full_disk_stops(path: Path, num_bytes: int) -> Iterator[None]:
    """Wraps the writing of a file or folder of a run.

    Args:
        path: what is written.
        num_bytes: how large it will be.

    Raises:
        RunStopped: the disk is full, or the user's quota on it is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        disk = disk_of(path)
        raise RunStopped(
            f"{path} cannot be written ({error.strerror}): it needs {_size(num_bytes)}, and "
            f"{_size(shutil.disk_usage(disk).free)} are free on {disk}; make space there, then run the same "
            "command again to resume from the newest checkpoint"
        ) from error


def disk_of(path: Path) -> Path:
    """Where the disk is mounted that holds a path; the path itself need not exist."""
    folder = Path(os.path.realpath(path))
    while not os.path.ismount(folder):
        folder = folder.parent
    return folder


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes:,} bytes"
