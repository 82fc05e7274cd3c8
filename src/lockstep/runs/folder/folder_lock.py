"""The lock of a run folder: one start of a run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lockstep.errors import ConfigError, require
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.folder.files import CHECKPOINTS_FOLDER, EVALUATIONS_FOLDER
from lockstep.runs.folder.links import check_links
from lockstep.runs.folder.set_aside import SET_ASIDE_FOLDER

LOCK_FILE = ".lock"
FOLDERS = (CHECKPOINTS_FOLDER, EVALUATIONS_FOLDER, SET_ASIDE_FOLDER)
"""Those that a start of a run writes in, or moves parts of."""
LOCK_WAIT_SECONDS = 20
"""On a network file system, the lock of a killed process may outlive it for some seconds."""


def check_own_folders(folder: Path) -> None:
    """Checks, before long work, that a run folder and the folders in it can be written.

    Raises:
        ConfigError: one of them cannot, as in the folder of a colleague.
    """
    for path in (folder, *(folder / name for name in FOLDERS)):
        is_writable = not path.is_dir() or os.access(path, os.W_OK | os.X_OK)
        require(
            is_writable, "run.dir", str(folder.parent), f"{path} cannot be written; choose another folder"
        )


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
            check_own_folders(folder)
            check_links(folder)  # the lock's file is written too
            try:
                lock.acquire(timeout=0)
            except Timeout:
                wait = f"waiting up to {LOCK_WAIT_SECONDS} s for it to end"
                print(f"lockstep: another process is training in {str(folder)!r}; {wait}", flush=True)
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
