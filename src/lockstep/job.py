"""What the job scripts in slurm/ ask of a run, before and after it: `python -m lockstep.job`. No torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lockstep.arguments import parse_config
from lockstep.config import ConfigError
from lockstep.config_tree import run_folder
from lockstep.plan import window_length

FAILURES_FILE = "failures.json"
MAX_FAILURES = 3
"""Failures without a new checkpoint between them after which a job stops."""


def prepare(num_processes: int, flags: list[str], environ: Mapping[str, str] = os.environ) -> Path:
    """The run folder that flags name, made if it is not there; forgets failures of jobs before this one.

    Raises:
        ConfigError: a flag is wrong, the batch does not divide, or the folder cannot be made.
    """
    config = parse_config(flags)
    window_length(config.batch, num_processes, exact=config.reduction == "exact")
    folder = run_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if environ.get("SLURM_RESTART_COUNT", "0") == "0":
            (folder / FAILURES_FILE).unlink(missing_ok=True)
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
    path.write_text(json.dumps({"step": step, "count": count}) + "\n")
    return count, step


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint in a run folder; 0 if there is none."""
    names = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    return int(names[-1].removeprefix("step-")) if names else 0


def main(argv: list[str]) -> int:
    """`prepare NUM_PROCESSES FLAGS` prints the run folder; `failed FOLDER` exits with 0 for another start."""
    command, first, *flags = argv
    if command == "prepare":
        try:
            print(prepare(int(first), flags))
        except ConfigError as error:
            print(f"lockstep: error: {error}", file=sys.stderr)
            return 2
        return 0
    assert command == "failed", command
    count, step = count_failure(Path(first))
    times = f"failure {count} of {MAX_FAILURES} without a checkpoint after step {step}"
    if count < MAX_FAILURES:
        print(f"lockstep: the run failed ({times}); it is started again", flush=True)
        return 0
    print(f"lockstep: the run failed ({times}); it is not started again, the reason is above", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
