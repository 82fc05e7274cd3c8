"""From argv to a command, and from what the command raises to a message and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from lockstep import __version__
from lockstep.errors import EXIT_FAILED, EXIT_USAGE, ConfigError, RankError, RunStopped
from lockstep.launch import process_rank

COMMANDS = {
    "train": "train, or go on with, the run that the settings describe",
    "evaluate": "score a checkpoint on its test set",
    "replay": "recompute a run up to one of its steps, compare it with the record, and open that step up",
    "explain": "show what one optimizer step really does",
    "report": "draw a run's curves, confusions and worst mistakes into its folder",
    "compare": "put several runs into one table and one picture",
    "sync": "give W&B what it does not have yet of the runs in a folder",
    "fetch": "fetch and verify the data, for machines without internet later",
    "doctor": "check what would stop a run, before it waits in a queue",
}
"""Name → what it does. Each is the function of its name in the module of its name, imported when it runs."""

HELP = """usage: lockstep COMMAND [OPTIONS]

Train digit classifiers; a run is defined by its global batch, not by its topology.

commands:
{commands}

`lockstep COMMAND --help` shows a command's options. `lockstep --version` shows the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The `lockstep` command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            HELP.format(commands="\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())), end=""
        )
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        print(f"lockstep {__version__}")
        return 0
    # Threads that wait in a busy loop keep a shared core from the thread they wait for. With libgomp's own
    # limit of about 1 ms a step is several times slower there; this one, some 30 us, costs nothing elsewhere.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise ConfigError(f"no command {name!r}; there are {', '.join(COMMANDS)}")
        return getattr(importlib.import_module(f"lockstep.commands.{name}"), name)(rest)
    except ConfigError as error:
        return report_mistake(error)
    except RunStopped as stop:
        if process_rank() == 0:
            print(f"lockstep: stopped: {stop}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    except Exception:
        print(f"lockstep: rank {process_rank()} failed:", file=sys.stderr, flush=True)
        raise


def report_mistake(error: ConfigError) -> int:
    """Prints a user's mistake as one line: the main rank's, and of the others what they may have alone."""
    rank = process_rank()
    if rank == 0 or isinstance(error, RankError):
        whose = f"rank {rank}: " if rank else ""
        print(f"lockstep: error: {whose}{error}", file=sys.stderr, flush=True)
    return EXIT_USAGE
