"""`python -m lockstep.commands.job`: what the job scripts in slurm/ ask, before and after a run. No torch."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from lockstep.config import parse_config
from lockstep.errors import ConfigError
from lockstep.plan import window_length
from lockstep.report import comparison_of, most_accurate_first
from lockstep.runs import read_settings, run_path

FAILURES_FILE = "failures.json"
MAX_FAILURES = 3
"""Failures without a new checkpoint between them after which a job stops."""


def prepare(num_processes: int, flags: list[str]) -> Path:
    """The run folder that flags name, made if it is not there.

    Raises:
        ConfigError: a flag is wrong, the batch does not divide, or the folder cannot be made.
    """
    config = parse_config(flags)
    window_length(config.batch, num_processes, exact=config.reduction == "exact")
    folder = run_path(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"run.dir = {config.run.dir!r}: cannot be written ({error}); name another"
        ) from error
    return folder


def count_failure(folder: Path) -> tuple[int, int]:
    """Notes that a run failed: (how often in a row without a new checkpoint, step of the newest one)."""
    step = newest_step(folder)
    path = folder / FAILURES_FILE
    before = json.loads(path.read_text()) if path.exists() else {"step": -1, "count": 0}
    count = before["count"] + 1 if before["step"] == step else 1
    _write(path, json.dumps({"step": step, "count": count}) + "\n")
    return count, step


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint in a run folder; 0 if there is none."""
    names = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    return int(names[-1].removeprefix("step-")) if names else 0


def sweep_table(run_dir: Path, group: str) -> str:
    """The table of the runs of a tracking.group."""
    folders = [settings.parent for settings in sorted(run_dir.glob("*/config.yaml"))]
    groups = {folder: read_settings(folder).get("tracking", {}).get("group") for folder in folders}
    members = [folder for folder in folders if groups[folder] == group]
    return comparison_of(most_accurate_first({folder.name: folder for folder in members}))


def _write(path: Path, content: str) -> None:
    """At once and whole: several tasks of a sweep may write the same file."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(content)
    os.replace(scratch, path)


def main(argv: list[str]) -> int:
    """Three commands, for scripts.

    `prepare NUM_PROCESSES FLAGS` prints the run folder; `failed FOLDER` exits with 0 if the run is to be
    started again; `table FLAGS` prints the table of the sweep that the flags belong to.
    """
    command, *words = argv
    try:
        if command == "prepare":
            print(prepare(int(words[0]), words[1:]))
            return 0
        if command == "table":
            config = parse_config(words)
            text = sweep_table(Path(config.run.dir), config.tracking.group)
            _write(Path(config.run.dir) / f"{config.tracking.group}.txt", text)
            print(text, end="")
            return 0
    except ConfigError as error:
        print(f"lockstep: error: {error}", file=sys.stderr)
        return 2
    assert command == "failed", command
    count, step = count_failure(Path(words[0]))
    is_last = count >= MAX_FAILURES
    times = f"failure {count} of {MAX_FAILURES} without a checkpoint after step {step}"
    verdict = "it is not started again, the reason is above" if is_last else "it is started again"
    print(f"lockstep: the run failed ({times}); {verdict}")
    return 1 if is_last else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
