"""The files of a run folder: their names, how they are written whole, and how they are read. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from lockstep.errors import ConfigError

SETTINGS_FILE = "config.yaml"
"""The settings of the newest start."""
STARTS_FILE = "starts.jsonl"
"""A line per start: its first step, and what it ran on."""
METRICS_FILE = "metrics.jsonl"
"""A record per logged step."""
SUMMARY_FILE = "summary.json"
"""The result of a finished run."""
Record = dict[str, Any]
"""A flat dict of JSON values that belongs to its `step`; the numbers in it are global, over all ranks."""


def read_settings(folder: Path) -> dict[str, Any]:
    """The config tree of a run."""
    return yaml.safe_load((folder / SETTINGS_FILE).read_text())


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """At which step each start of a run began, and on what; oldest first."""
    return _lines(folder / STARTS_FILE)


def read_metrics(folder: Path) -> list[Record]:
    """The records of a run."""
    return _lines(folder / METRICS_FILE)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run; None before its end."""
    path = folder / SUMMARY_FILE
    return json.loads(path.read_text()) if path.exists() else None


def resume_steps(starts: list[dict[str, Any]]) -> list[int]:
    """After which steps a run was resumed, without the starts whose steps a later one took anew."""
    steps: list[int] = []
    for start in starts:
        steps = [step for step in steps if step < start["step"]] + [start["step"]]
    return [step for step in steps if step > 0]


def recorded_run(word: str) -> Path:
    """The run folder that a word of the command line names.

    Raises:
        ConfigError: it is none, or has no records yet.
    """
    folder = Path(word)
    if not (folder / SETTINGS_FILE).exists():
        raise ConfigError(f"RUN = {word!r}: is no run folder; name one such as runs/NAME")
    if not read_metrics(folder):
        raise ConfigError(f"RUN = {word!r}: has no records yet; wait for train.log_every steps")
    return folder


def _lines(path: Path) -> list[dict[str, Any]]:
    """One JSON object a line; a last line that was cut short by a kill is left out.

    Raises:
        ConfigError: another line is not JSON.
    """
    lines = path.read_text().split("\n") if path.exists() else []
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise ConfigError(f"{path}: is damaged ({error}); mend it, or move it away") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """A file that is there as a whole or not at all."""
    scratch = path.with_name(f".{path.name}.partial")
    write_synced(scratch, content.encode() if isinstance(content, str) else content)
    os.replace(scratch, path)


def write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes a rename survive a power loss: it is an entry of the folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
