"""The ways a command ends early, each with its exit code: a user's mistake, or a stop all ranks agreed on.

Also what messages need, `counted`, `short_message` and `first_line`: every package may import this module.
"""

from __future__ import annotations

import traceback
from pathlib import Path

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_RESUMABLE = 75
"""EX_TEMPFAIL from sysexits.h: a temporary failure; run the same command again."""


class ConfigError(ValueError):
    """A user's mistake, reported in one line: field, value, rule and remedy. Commands exit with code 2.

    Every rank raises it, from the same inputs or by agreement, so only the main rank reports it.
    """


class RankError(ConfigError):
    """A user's mistake that a rank finds on its own before it joins the others. Each rank reports its own."""


def refuse(name: str, value: object, rule: str) -> ConfigError:
    """Builds the error for a field that breaks its rule; the rule ends with the remedy."""
    shown = repr(value) if isinstance(value, str) else value
    return ConfigError(f"{name} = {shown}: {rule}")


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """Checks a field against its rule, given as in `refuse`.

    Raises:
        ConfigError: the condition is false.
    """
    if not condition:
        raise refuse(name, value, rule)


class AgreedStop(Exception):
    """Raised by every rank after the same step. One line explains it; no traceback is needed."""


class RunStopped(AgreedStop):
    """The run cannot continue; the message says why and what to do. Commands exit with code 1."""


class RankFailed(Exception):
    """A rank cannot continue, and the others do not know it. The message is enough; no traceback is needed.

    The others may wait for it: so it must end its process. Commands exit with code 1.
    """


class DataError(RankFailed):
    """The training or test data cannot be read."""


class PeerError(RankFailed):
    """Raised on a rank because another one failed; names that one, and why."""


class Interrupted(AgreedStop, SystemExit):
    """The run was asked to stop, and a checkpoint of its last step is saved. Commands exit with code 75.

    So does a program that does not catch it, without a traceback: it is a SystemExit, because being asked to
    stop is no error of the program, and its caller must be able to tell. `except Exception` catches it too.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step
        self.code = EXIT_RESUMABLE


def is_agreed(error: BaseException) -> bool:
    """Whether every rank raises an error, so that none waits for another."""
    return isinstance(error, ConfigError | AgreedStop) and not isinstance(error, RankError)


def short_message(error: BaseException) -> str:
    """The first line of what an error says; its type if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def first_line(error: BaseException) -> str:
    """The type and first line of an error, after the innermost line outside of torch and Lockstep."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not {"torch", "lockstep"} & set(Path(each.filename).parts)]
    place = f"{Path(own[-1].filename).name} line {own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def counted(count: int, noun: str, spec: str = "") -> str:
    """A count with its noun, for messages: '1 rank', '8 micro-batches', '4 processes'.

    Args:
        count: how many.
        noun: what is counted, in the singular.
        spec: the format of the count, such as "," for '12,000 steps'.
    """
    ending = "" if count == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{count:{spec}} {noun}{ending}"
