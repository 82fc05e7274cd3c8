"""A user's mistake and how it is told."""

from __future__ import annotations


class ConfigError(ValueError):
    """A user's mistake, told in one line: field, value, rule and remedy. Commands exit with code 2."""


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
