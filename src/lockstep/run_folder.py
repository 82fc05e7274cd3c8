"""The folder of one run: opened by one start at a time, only with the settings that it was begun with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lockstep import checkpoint
from lockstep.checkpoint import Checkpoint
from lockstep.config import Config
from lockstep.config_tree import differences, to_yaml
from lockstep.console import say
from lockstep.errors import ConfigError
from lockstep.ranks import Ranks

SUMMARY_FILE = "summary.json"
STARTS_FILE = "starts.jsonl"
LOCK_WAIT_SECONDS = 20  # on a network file system the lock of a killed process may outlive it a little


def open_folder(config: Config, folder: Path) -> dict[str, Any] | None:
    """Makes the run folder, or checks that it is of this run; its summary, if the run is finished.

    Raises:
        ConfigError: the folder holds a run with other settings, or cannot be written.
    """
    settings = folder / "config.yaml"
    try:
        if settings.exists():
            changes = differences(config, yaml.safe_load(settings.read_text()))
            if changes:
                name, (now, before) = next(iter(changes.items()))
                raise ConfigError(
                    f"{name} = {now!r}: run {str(folder)!r} was started with {before!r}; "
                    "choose another run.name, or leave run.name out to have one derived"
                )
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_atomically(settings, to_yaml(config))
        summary = folder / SUMMARY_FILE
        return json.loads(summary.read_text()) if summary.exists() else None
    except OSError as error:
        raise ConfigError(
            f"run.dir = {config.run.dir!r}: cannot be written ({error}); name another"
        ) from error


def record_start(folder: Path, step: int, environment: dict[str, Any]) -> None:
    """Notes at which step a start of the run began, and on what."""
    with (folder / STARTS_FILE).open("a") as file:
        file.write(json.dumps({"step": step, **environment}) + "\n")


def environment_of(folder: Path, step: int) -> dict[str, Any]:
    """What the newest start that computed a step ran on; empty where no start is noted."""
    path = folder / STARTS_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    starts = [start for start in map(json.loads, lines) if start["step"] < step]
    return starts[-1] if starts else {}


@contextmanager
def locked_folder(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Keeps a second start of the same run out; the kernel drops the lock if this one is killed.

    Raises:
        ConfigError: another process holds it.
    """
    lock = FileLock(folder / ".lock")

    def acquire() -> None:
        try:
            lock.acquire(timeout=LOCK_WAIT_SECONDS)
        except Timeout:
            raise ConfigError(
                f"run.name: another process is training in {str(folder)!r}; stop it, or choose another name"
            ) from None

    ranks.on_main(acquire)
    try:
        yield
    finally:
        lock.release()


def newest_checkpoint(folder: Path, ranks: Ranks) -> Checkpoint | None:
    """The newest whole checkpoint, read by the main rank and handed to all; names those that are damaged."""
    found, damages = ranks.on_main(lambda: checkpoint.load_newest(folder / "checkpoints"))
    if ranks.is_main:
        for damage in damages:
            say(f"damaged checkpoint left out: {damage}")
    return found


def load_whole(path: Path) -> Checkpoint:
    """One checkpoint.

    Raises:
        ConfigError: it is damaged, or is none.
    """
    try:
        return checkpoint.load(path)
    except checkpoint.DamagedCheckpoint as damage:
        raise ConfigError(f"CHECKPOINT = {damage}; use another one of the run") from damage
