"""The folder of one run: opened by one start at a time, only with the settings that it was begun with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lockstep import checkpoint
from lockstep.checkpoint import Checkpoint
from lockstep.config import Config
from lockstep.config_tree import differences, to_yaml
from lockstep.errors import ConfigError, refuse
from lockstep.ranks import Ranks
from lockstep.run_files import SETTINGS_FILE, STARTS_FILE, read_settings, read_starts, read_summary

LOCK_FILE = ".lock"
LOCK_WAIT_SECONDS = 20  # on a network file system the lock of a killed process may outlive it a little


def check_folder(config: Config, folder: Path) -> dict[str, Any] | None:
    """Checks that a run folder is of this run, or new; the run's summary, if it is finished.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    if (folder / SETTINGS_FILE).exists():
        remedy = "choose another run.name, or leave run.name out to have one derived"
        check_settings(config, read_settings(folder), f"run {str(folder)!r}", remedy)
    return read_summary(folder)


def check_settings(config: Config, saved: dict[str, Any], run: str, remedy: str) -> None:
    """Checks that the saved settings of a run define the same one.

    Raises:
        ConfigError: they do not; it names the run, and the remedy.
    """
    changes = differences(config, saved)
    if changes:
        name, (now, before) = next(iter(changes.items()))
        raise refuse(name, now, f"{run} was started with {before!r}; {remedy}")


def begin(config: Config, folder: Path, step: int, environment: dict[str, Any]) -> list[str]:
    """Writes down the settings, and at which step this start begins and on what.

    Returns:
        What differs from the environment of the steps before, where that may change bits.
    """
    before = environment_of(folder, step)
    checkpoint.write_atomically(folder / SETTINGS_FILE, to_yaml(config))
    with (folder / STARTS_FILE).open("a") as file:
        file.write(json.dumps({"step": step, **environment}) + "\n")
    # Neither the number of ranks nor the user's other files change the bits.
    relevant = sorted(before.keys() & environment.keys() - {"world_size", "git"})
    return [
        f"{key} {before[key]} → {environment[key]}" for key in relevant if before[key] != environment[key]
    ]


def environment_of(folder: Path, step: int) -> dict[str, Any]:
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


def newest_checkpoint(folder: Path, ranks: Ranks, before: int | None = None) -> Checkpoint | None:
    """The newest whole checkpoint (before a step, if one is given), read by the main rank and handed to all.

    Names those that are damaged.
    """

    def read() -> Checkpoint | None:
        found, damages = checkpoint.load_newest(folder / "checkpoints", before)
        for damage in damages:
            print(f"lockstep: damaged checkpoint left out: {damage}", file=sys.stderr, flush=True)
        return found

    return ranks.on_main(read)


def load_whole(path: Path) -> Checkpoint:
    """One checkpoint.

    Raises:
        ConfigError: it is damaged, or is none.
    """
    try:
        return checkpoint.load(path)
    except checkpoint.DamagedCheckpoint as damage:
        raise ConfigError(f"CHECKPOINT = {damage}; use another one of the run") from damage
