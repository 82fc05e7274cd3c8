"""Turns argv into a command, and what the command raises into a message and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from bdb import BdbQuit
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from lockstep import __version__
from lockstep.errors import (
    EXIT_FAILED,
    EXIT_RESUMABLE,
    EXIT_USAGE,
    ConfigError,
    Interrupted,
    PeerError,
    RankError,
    RankFailed,
    RunStopped,
    refuse,
    require,
)
from lockstep.launch import (
    exit_quickly,
    forget_launcher,
    lasting_output,
    leave_words,
    lend_home,
    process_rank,
    tell_launcher,
)

COMMANDS = {
    "train": "train the run that the settings describe, or resume it",
    "evaluate": "score a checkpoint on its test set",
    "predict": "label images, or what a task of your own reads",
    "export": "export a model for other programs: ONNX, torch.export, Hugging Face",
    "replay": "recompute a run up to a step, compare it with the record, and show that step in detail",
    "explain": "show what one optimizer step really does",
    "report": "draw a run's curves, confusion matrix and worst mistakes into its folder",
    "compare": "compare several runs in one table and one picture",
    "sync": "upload the parts of runs that W&B does not have yet",
    "fetch": "fetch and verify the data ahead of time, for machines without internet",
    "doctor": "find what would stop a run before it waits in a queue",
}
"""Name → what it does. Each is a function in a module, both of that name; imported only when it runs."""

MAIN_RANK_SECONDS = 10
"""How long another rank leaves the main rank to report a mistake. A launcher ends the wait sooner."""

HELP = """usage: lockstep COMMAND [OPTIONS]

Train models with PyTorch; a run is defined by its global batch, not by its topology.

commands:
{commands}

`lockstep COMMAND --help` shows a command's options. `lockstep --version` shows the version.
With --launcher none a command runs in this process alone, whatever launcher's variables it inherits.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The `lockstep` command; returns its exit code.

    Args:
        argv: its words; None: those of this process, which is the command's own and then ends quickly.
    """
    if argv is not None:
        with lasting_output():
            return run_command(list(argv))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, interrupt)
    try:
        with lasting_output():
            code = run_command(sys.argv[1:])
    except KeyboardInterrupt:
        end_by_interrupt()
    exit_quickly(code)
    return code


def interrupt(_: int, frame: FrameType | None) -> None:
    """Ctrl-C: a command first tidies up, but an import ends at once: torch's would raise another error."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            end_by_interrupt()
        frame = frame.f_back
    raise KeyboardInterrupt


def end_by_interrupt() -> NoReturn:
    """Ends as any program does on Ctrl-C: killed by SIGINT, so that a shell's loop ends too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("SIGINT is blocked")


def run_command(arguments: list[str]) -> int:
    """Runs the command that the arguments name; its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            HELP.format(commands="\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())), end=""
        )
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        print(f"lockstep {__version__}")
        return 0
    # On a shared core, a thread that waits in a busy loop blocks the very thread that it waits for. libgomp's
    # default of about 1 ms makes a step several times slower there; about 30 us costs nothing elsewhere.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    lend_home()
    name, *words = arguments

    def command() -> int:
        if name not in COMMANDS:
            from lockstep.config import nearest

            near = nearest(name, COMMANDS)
            hint = f"; perhaps you meant {near!r}" if near else ""
            raise refuse("COMMAND", name, f"is not a command; use one of {', '.join(COMMANDS)}{hint}")
        from lockstep.config import leave_run_folders, take_option

        leave_run_folders()  # before anything else is imported
        launcher, rest = take_option(words, "--launcher")
        if launcher:
            rule = "can only be none: this process alone; a launcher is known by the variables that it sets"
            require(launcher == "none", "--launcher", launcher, rule)
            forget_launcher()
        return getattr(importlib.import_module(f"lockstep.commands.{name}"), name)(rest)

    return exit_code(command)


def run_script(main: Callable[[], object]) -> NoReturn:
    """Runs a script's main function and ends the process, like the `lockstep` command.

    A user's mistake is one line and exit code 2, not a traceback; a run that cannot continue is one line and
    exit code 1; an interrupted run ends with exit code 75. Any other error keeps its traceback.

    Args:
        main: takes no arguments; what it returns is ignored.
    """

    def script() -> int:
        main()
        return 0

    sys.exit(exit_code(script))


def exit_code(action: Callable[[], int]) -> int:
    """What an action returns, or the exit code for how it ended early, once that is reported in one line."""
    try:
        return action()
    except Interrupted as stop:
        report_interruption(stop)
        return EXIT_RESUMABLE
    except ConfigError as error:
        return report_mistake(error)
    except RunStopped as stop:
        if process_rank() == 0:
            leave_words(f"lockstep: stopped: {stop}")
        return EXIT_FAILED
    except BdbQuit:
        leave_words("lockstep: stopped: the debugger was quit with q or at the end of its input")
        return EXIT_FAILED
    except RankFailed as error:
        how = "stopped" if isinstance(error, PeerError) else "failed"
        leave_words(f"lockstep: rank {process_rank()} {how}: {error}")
        return EXIT_FAILED
    except Exception:
        print(f"lockstep: rank {process_rank()} failed:", file=sys.stderr, flush=True)
        tell_launcher(f"lockstep: rank {process_rank()} failed:\n{traceback.format_exc()}")
        raise


def report_interruption(stop: Interrupted) -> None:
    """Says, under a launcher, how a script can tell: torchrun and `accelerate launch` exit with 1 instead."""
    launched = {"TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"} & os.environ.keys()
    if launched and process_rank() == 0 and "LOCKSTEP_RESUMABLE_FILE" not in os.environ:
        leave_words(
            f"lockstep: {stop}: exit code {EXIT_RESUMABLE}, which launchers turn into 1; a script can set "
            "LOCKSTEP_RESUMABLE_FILE to a path, and then check whether that file exists"
        )


def report_mistake(error: ConfigError) -> int:
    """Prints a user's mistake in one line: on the main rank, or on the rank that alone has it (RankError).

    The other ranks wait for it: as soon as one exits, its launcher kills the others. One that is still there
    after the wait reports the mistake itself: there is no main rank, or it is on another node.
    """
    rank = process_rank()
    if rank != 0 and not isinstance(error, RankError):
        time.sleep(MAIN_RANK_SECONDS)
    whose = f"rank {rank}: " if rank else ""
    leave_words(f"lockstep: error: {whose}{error}")
    return EXIT_USAGE
