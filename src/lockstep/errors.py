"""The ways a command ends early, each with its exit code: a user's mistake, or a stop all ranks agreed on."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_RESUMABLE = 75
"""EX_TEMPFAIL of sysexits.h: a temporary failure, to be tried again."""


class ConfigError(ValueError):
    """A user's mistake, told in one line: field, value, rule and remedy. Commands exit with code 2.

    All ranks have it, by what they were all given or because they agreed on it, so one of them tells it.
    """


class RankError(ConfigError):
    """A user's mistake that a rank finds where it runs, before it joins the others: each tells its own."""


def refuse(name: str, value: object, rule: str) -> ConfigError:
    """The error for a field that breaks its rule; the rule ends with the remedy."""
    shown = repr(value) if isinstance(value, str) else value
    return ConfigError(f"{name} = {shown}: {rule}")


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """Refuses a field that breaks its rule.

    Raises:
        ConfigError: the condition does not hold.
    """
    if not condition:
        raise refuse(name, value, rule)


class AgreedStop(Exception):
    """Raised by every rank after the same step; one line says it, and no traceback is needed."""


class RunStopped(AgreedStop):
    """The run cannot go on; the message says why and what to do. Commands exit with code 1."""


class Interrupted(AgreedStop):
    """The run was asked to stop, and the checkpoint of its last step is published. Exit code 75."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step
