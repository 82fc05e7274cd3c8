"""From argv and YAML to a config, and from there to a subcommand. Heavy imports are inside those."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lockstep import __version__
from lockstep.arguments import parse, parse_config
from lockstep.config import ConfigError, DataConfig
from lockstep.launch import process_rank, read_launch

USAGE_ERROR = 2

HELP = """usage: lockstep COMMAND [OPTIONS]

Train digit classifiers; a run is defined by its global batch, not by its topology.

commands:
  train      train, or go on with, the run that the settings describe
  evaluate   score a checkpoint on its test set
  fetch      fetch and verify the data, for machines without internet later
  doctor     check what would stop a run, before it waits in a queue

`lockstep COMMAND --help` shows a command's options. `lockstep --version` shows the version.
"""

EVALUATE_HELP = """usage: lockstep evaluate CHECKPOINT [OPTIONS]

Score a checkpoint on the test set of its run, on however many ranks this is started with.
CHECKPOINT is a run folder (its newest checkpoint) or one checkpoint in it. OPTIONS are those of
`lockstep train`; --data.root and --data.name are the useful ones.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The `lockstep` command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": train_command,
        "evaluate": evaluate_command,
        "fetch": fetch_command,
        "doctor": doctor_command,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        print(f"lockstep {__version__}")
        return 0
    name, *rest = arguments
    try:
        if name not in commands:
            raise ConfigError(f"no command {name!r}; there are {', '.join(commands)}")
        return commands[name](rest)
    except ConfigError as error:
        return report_mistake(error)
    except Exception:
        print(f"lockstep: rank {process_rank()} failed:", file=sys.stderr, flush=True)
        raise


def report_mistake(error: ConfigError) -> int:
    """Prints a user's mistake as one line, on the main rank only."""
    if process_rank() == 0:
        print(f"lockstep: error: {error}", file=sys.stderr, flush=True)
    return USAGE_ERROR


def train_command(argv: list[str]) -> int:
    """Trains, or goes on with, the run that the settings describe."""
    config = parse_config(argv)
    launch = read_launch()
    from lockstep.assemble import run_training
    from lockstep.console import say
    from lockstep.preemption import EXIT_RESUMABLE, Interrupted

    try:
        outcome = run_training(config, launch)
    except Interrupted as stop:
        if launch.is_main:
            say(f"interrupted after step {stop.step}, checkpoint saved; the same command goes on from there")
        return EXIT_RESUMABLE
    if launch.is_main:
        summary = outcome.summary
        done = "was finished before" if outcome.was_finished else "finished"
        say(
            f"{outcome.folder} {done}: test accuracy {summary['test_accuracy']:.2%}, "
            f"{summary['steps']} steps in {summary['train_seconds']:.1f} s of training, "
            f"weights {summary['weights_sha256'][:12]}"
        )
    return 0


def evaluate_command(argv: list[str]) -> int:
    """Scores a checkpoint on the test set of its run, or of `--data.name`."""
    if not argv or argv[0].startswith("-"):
        print(EVALUATE_HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else USAGE_ERROR
    path = Path(argv[0])
    candidates = [folder / "config.yaml" for folder in (path, path.resolve().parent.parent)]
    settings = next((file for file in candidates if file.exists()), None)
    if settings is None:
        raise ConfigError(
            f"CHECKPOINT = {argv[0]!r}: is no run folder and no checkpoint in one; "
            "name runs/NAME or runs/NAME/checkpoints/step-00000000"
        )
    config = parse_config(["--config", str(settings), *argv[1:]])
    launch = read_launch()
    from lockstep.assemble import evaluate_checkpoint

    summary = evaluate_checkpoint(path, config, launch)
    if launch.is_main:
        print(json.dumps(summary, indent=1))
    return 0


def fetch_command(argv: list[str]) -> int:
    """Fetches and verifies the data."""
    config = parse(DataConfig, argv, prog="lockstep fetch")
    from lockstep.data import fetch_dataset, load_dataset

    source = fetch_dataset(config)
    dataset = load_dataset(config, seed=0)
    print(
        f"lockstep: {config.name} is complete in {config.root} (from {source}): "
        f"{len(dataset.train_labels)} training and {len(dataset.test_labels)} test images"
    )
    return 0


def doctor_command(argv: list[str]) -> int:
    """Checks what would stop a run."""
    from lockstep.doctor import doctor

    return doctor(argv)


if __name__ == "__main__":
    sys.exit(main())
