"""The folder of one run: locked by one start at a time, and what each start notes in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lockstep.config import Config, to_yaml
from lockstep.errors import ConfigError
from lockstep.launch.ranks import Ranks
from lockstep.runs.files import SETTINGS_FILE, STARTS_FILE, read_starts, write_atomically

LOCK_FILE = ".lock"
LOCK_WAIT_SECONDS = 20  # on a network file system the lock of a killed process may outlive it a little


def note_start(config: Config, folder: Path, step: int, environment: dict[str, Any]) -> list[str]:
    """Writes down the settings, and at which step this start begins and on what.

    Returns:
        What differs from the environment of the steps before, where that may change bits.
    """
    before = environment_at(folder, step)
    write_atomically(folder / SETTINGS_FILE, to_yaml(config))
    with (folder / STARTS_FILE).open("a") as file:
        file.write(json.dumps({"step": step, **environment}) + "\n")
    # Neither the number of ranks nor the user's other files change the bits.
    relevant = sorted(before.keys() & environment.keys() - {"world_size", "git"})
    return [
        f"{key} {before[key]} → {environment[key]}" for key in relevant if before[key] != environment[key]
    ]


def environment_at(folder: Path, step: int) -> dict[str, Any]:
    """What the newest start that computed a step ran on; empty where no start is noted."""
    starts = [start for start in read_starts(folder) if start["step"] < step]
    return starts[-1] if starts else {}


@contextmanager
def locked_folder(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Makes the folder and keeps a second start of the same run out; the lock dies with its process.

    Raises:
        ConfigError: another process holds the lock, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE)

    def acquire() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_WAIT_SECONDS)
        except Timeout:
            raise ConfigError(
                f"run.name: another process is training in {str(folder)!r}; stop it, or choose another name"
            ) from None
        except OSError as error:
            place = str(folder.parent)
            raise ConfigError(f"run.dir = {place!r}: cannot be written ({error}); name another") from error

    ranks.on_main(acquire)
    try:
        yield
    finally:
        lock.release()
