"""`lockstep evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

from lockstep.config import parse_config
from lockstep.errors import EXIT_USAGE, ConfigError
from lockstep.launch import read_launch
from lockstep.runs import SETTINGS_FILE

HELP = """usage: lockstep evaluate CHECKPOINT [OPTIONS]

Score a checkpoint on the test set of its run, on however many ranks this is started with.
CHECKPOINT is a run folder (its newest checkpoint) or one checkpoint in it. OPTIONS are those of
`lockstep train`; --data.root and --data.name are the useful ones.
"""


def evaluate(argv: list[str]) -> int:
    """Scores a checkpoint on the test set of its run, or of `--data.name`."""
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    path = Path(argv[0])
    candidates = [folder / SETTINGS_FILE for folder in (path, path.resolve().parent.parent)]
    settings = next((file for file in candidates if file.exists()), None)
    if settings is None:
        raise ConfigError(
            f"CHECKPOINT = {argv[0]!r}: is no run folder and no checkpoint in one; "
            "name runs/NAME or runs/NAME/checkpoints/step-00000000"
        )
    config = parse_config(["--config", str(settings), *argv[1:]])
    launch = read_launch()
    from lockstep.trainer import evaluate_checkpoint

    summary = evaluate_checkpoint(path, config, launch)
    if launch.is_main:
        print(json.dumps(summary, indent=1))
    return 0
