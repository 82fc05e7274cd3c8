"""What the job scripts in slurm/ ask of a run, before and after it: `python -m lockstep.job`. No torch."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from lockstep.arguments import parse_config
from lockstep.config import Config
from lockstep.config_tree import MAY_CHANGE, leaves, run_folder
from lockstep.errors import ConfigError
from lockstep.plan import window_length

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
    folder = run_folder(config)
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
    """A table of the runs of a tracking.group: what differs between them, and how far they came."""
    runs = []
    for settings in sorted(run_dir.glob("*/config.yaml")):
        tree = yaml.safe_load(settings.read_text())
        if tree["tracking"]["group"] == group:
            runs.append((settings.parent, {name: _leaf(tree, name) for name in leaves(Config())}))
    varied = [
        name
        for name in leaves(Config())
        if name not in MAY_CHANGE and len({str(values[name]) for _, values in runs}) > 1
    ]
    rows = [["run", *varied, "state", "processes", "test accuracy", "test loss"]]
    for folder, values in runs:
        path = folder / "summary.json"
        if path.exists():
            summary = json.loads(path.read_text())
            accuracy, loss = f"{summary['test_accuracy']:.2%}", f"{summary['test_loss']:.4f}"
            result = ["finished", str(summary["world_size"]), accuracy, loss]
        else:
            result = [f"at step {newest_step(folder)}", "-", "-", "-"]
        rows.append([folder.name, *(str(values[name]) for name in varied), *result])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"


def _leaf(tree: dict[str, Any], name: str) -> Any:
    for key in name.split("."):
        tree = tree.get(key, {})
    return tree


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
            table = sweep_table(Path(config.run.dir), config.tracking.group)
            _write(Path(config.run.dir) / f"{config.tracking.group}.txt", table)
            print(table, end="")
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
