"""Words that no setting takes, and what should stand there instead: one line each, in place of tyro's own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lockstep.config.choices import nearest
from lockstep.errors import ConfigError, refuse

NOUNS = {int: "whole number", float: "number"}
FLAG_IN_MESSAGE = re.compile(r"(?:^Error parsing |\bargument ')(--[\w.-]+)")
"""Where tyro names the option whose value is wrong or missing."""


def types_of(target: Callable[..., Any], prefix: str = "--") -> dict[str, Any]:
    """Flag → the type of its values, for a dataclass and its sections or for a function's arguments."""
    types: dict[str, Any] = {}
    for name, hint in get_type_hints(target).items():
        flag = prefix + name.replace("_", "-")
        types |= types_of(hint, f"{flag}.") if is_dataclass(hint) else {flag: hint}  # type: ignore[arg-type]
    return types


def wrong_value(
    message: str, words: Sequence[str], types: Mapping[str, Any], origin: tuple[str, set[str]]
) -> ConfigError | None:
    """The refusal of a value that is not of its setting's type, or is missing; None if it is another mistake.

    Args:
        message: what tyro says.
        words: that tyro was given.
        types: see `types_of`.
        origin: a file, and the flags in `words` that come from it.
    """
    found = FLAG_IN_MESSAGE.search(message)
    if found is None or found[1] not in types:
        return None
    flag = found[1]
    values, kind = values_of(flag, words), types[flag]
    if not values:
        return ConfigError(f"{flag}: needs {described(kind)} after it")
    file, from_file = origin
    place = f"in {file} " if flag in from_file else ""
    shown = " ".join(values)
    rule = f"{place}must be {described(kind)}{_hint(kind, shown)}"
    return refuse(flag.removeprefix("--").replace("-", "_"), shown, rule)


def values_of(flag: str, words: Sequence[str]) -> list[str]:
    """The words after the last `FLAG` or `FLAG=` up to the next flag."""
    places = [place for place, word in enumerate(words) if word.partition("=")[0] == flag]
    if not places:
        return []
    _, equals, first = words[places[-1]].partition("=")
    values = [first] if equals else []
    for word in words[places[-1] + 1 :]:
        if word.startswith("--"):
            break
        values.append(word)
    return values


def described(kind: Any) -> str:
    """A type in words: 'a whole number', 'one of exact, fast', '2 numbers'."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(arguments)}" if len(arguments) > 1 else repr(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(described(each) for each in arguments)
    if origin is tuple:
        how_many = "" if arguments[-1] is ... else f"{len(arguments)} "
        return f"{how_many}{NOUNS.get(arguments[0], 'value')}s"
    if origin is dict:
        return f"pairs of a name and a {NOUNS[arguments[1]]}"
    return f"a {NOUNS.get(kind, 'value')}"


def _hint(kind: Any, shown: str) -> str:
    """What is probably meant, if that can be told."""
    if get_origin(kind) is Literal:
        near = nearest(shown, get_args(kind))
        return f"; perhaps you meant {near!r}" if near else ""
    if int in (kind, *get_args(kind)):
        with contextlib.suppress(ValueError, OverflowError):
            if float(shown).is_integer():
                return f"; write {int(float(shown))}"
    return ""


def stray_word(word: str, words: Sequence[str], types: Mapping[str, Any]) -> str:
    """What to do about a word that is neither an option nor the value of one."""
    for flag, kind in types.items():
        if kind is bool and word in values_of(flag, words):
            section, _, name = flag.rpartition(".")
            negative = f"{section}.no-{name}" if section else f"--no-{name.removeprefix('--')}"
            return f"{flag} is a switch and takes no value; its negative is {negative}"
    if word.endswith((".yaml", ".yml")):
        return f"a file of settings is given as --config {word}"
    return "--help lists them all"
