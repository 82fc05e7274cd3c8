"""`lockstep evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.errors import EXIT_USAGE
from lockstep.launch import read_launch
from lockstep.runs import run_settings, to_json

HELP = """usage: lockstep evaluate CHECKPOINT [OPTIONS]

Score weights on the test set of their run, on any number of ranks. CHECKPOINT is a run folder (scores its
newest checkpoint), RUN:best (the best by the validation set), RUN:ema or RUN:best-ema (the moving average of
either), or one checkpoint of a run. OPTIONS are those of `lockstep train`; the most useful are --data.root
and --data.name.
"""


def evaluate(argv: list[str]) -> int:
    """Scores a checkpoint on the test set of its run, or of `--data.name`."""
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    from lockstep.runs.checkpoints.weights import run_of  # imports torch, which is slow

    config = run_settings(run_of(argv[0], "CHECKPOINT"), argv[1:])
    launch = read_launch()
    from lockstep.trainer import evaluate_checkpoint

    summary = evaluate_checkpoint(argv[0], config, launch)
    if launch.is_main:
        print(summary_text(summary))
    return 0


def summary_text(summary: Mapping[str, Any]) -> str:
    """JSON with a line for each value, and of a matrix for each row."""
    lines = []
    for name, value in summary.items():
        text = to_json(value)
        if isinstance(value, list) and value and isinstance(value[0], list):
            text = "[\n" + ",\n".join(f"  {to_json(row)}" for row in value) + "\n ]"
        lines.append(f" {to_json(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}"
