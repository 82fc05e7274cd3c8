"""What each start of a run records in the run folder: its settings, its first step, and what it runs on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lockstep.config import Config, to_yaml
from lockstep.runs.files import (
    RUN_FORMAT,
    SETTINGS_FILE,
    STARTS_FILE,
    read_settings,
    read_starts,
    write_atomically,
)


def record_start(config: Config, folder: Path, step: int, environment: dict[str, Any]) -> list[str]:
    """Writes the settings, and adds a line to STARTS_FILE: the step this start begins after, its environment.

    Returns:
        The differences from the environment of the steps before, as far as they may change bits.
    """
    before = environment_at(folder, step)
    changed = changed_source(config, folder)
    write_atomically(folder / SETTINGS_FILE, to_yaml(config))
    with (folder / STARTS_FILE).open("a") as file:
        file.write(json.dumps({"step": step, "format": RUN_FORMAT, **environment}) + "\n")
    # Neither the number of ranks nor the state of the user's repository changes the bits.
    relevant = sorted(before.keys() & environment.keys() - {"world_size", "git"})
    return changed + [
        f"{key} {before[key]} → {environment[key]}" for key in relevant if before[key] != environment[key]
    ]


def changed_source(config: Config, folder: Path) -> list[str]:
    """How the source of a run's task differs from that of its last start; empty if it does not."""
    path = folder / SETTINGS_FILE
    before = read_settings(folder).get("task", {}).get("source", "") if path.exists() else ""
    now = config.task.source
    return [f"task source {before} → {now}"] if before and now and before != now else []


def environment_at(folder: Path, step: int) -> dict[str, Any]:
    """The environment in which a step was last computed; empty if no start is recorded."""
    starts = [start for start in read_starts(folder) if start["step"] < step]
    return starts[-1] if starts else {}
