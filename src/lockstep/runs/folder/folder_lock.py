"""The lock of a run folder: one start of a run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lockstep.errors import ConfigError
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.folder.links import check_links

LOCK_FILE = ".lock"
LOCK_WAIT_SECONDS = 20
"""On a network file system, the lock of a killed process may outlive it for some seconds."""


@contextmanager
def locked_folder(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Makes the folder and keeps other starts of the same run out. The lock dies with its process.

    Raises:
        ConfigError: another process holds the lock, the folder cannot be written, or a link leads out of it.
    """
    lock = FileLock(folder / LOCK_FILE)

    def acquire() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_links(folder)  # the lock's file is written too
            lock.acquire(timeout=LOCK_WAIT_SECONDS)
        except Timeout:
            raise ConfigError(
                f"run.name: another process is training in {str(folder)!r}; stop it, or choose another name"
            ) from None
        except OSError as error:
            run_dir = str(folder.parent)
            raise ConfigError(
                f"run.dir = {run_dir!r}: cannot be written ({error}); choose another folder"
            ) from error

    ranks.on_main(acquire)
    try:
        yield
    finally:
        lock.release()
