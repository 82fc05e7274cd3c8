"""Checks of the settings that name one of a few choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lockstep.errors import refuse


def check_choices(section: Any, path: str) -> None:
    """Refuses a value that the `Literal` type of its field does not list.

    tyro checks the command line. This also covers sections that are made in Python.

    Args:
        section: a dataclass of the config tree.
        path: its dotted name, such as "optimizer"; empty for the whole tree.

    Raises:
        ConfigError: names the valid choices and the nearest one.
    """
    for name, choices in choices_of(type(section)).items():
        check_choice(f"{path}.{name}" if path else name, getattr(section, name), choices)


def check_choice(field: str, value: object, choices: Iterable[str], alternative: str = "") -> None:
    """Refuses a value that is not one of the choices; the message ends with the alternative, if there is one.

    Raises:
        ConfigError: names the valid choices and the nearest one.
    """
    names = list(choices)
    if value not in names:
        near = nearest(str(value), names)
        hint = f"; perhaps you meant {near!r}" if near else ""
        raise refuse(field, value, f"must be one of {', '.join(names)}{alternative}{hint}")


def check_unused(
    section: Any, path: str, by: str, settings: Mapping[Any, tuple[str, ...]], alternative: str = ""
) -> None:
    """Refuses a setting that is not used with the choice made, unless it is at its default.

    Args:
        section: a dataclass of the config tree.
        path: its dotted name, such as "optimizer".
        by: the field that holds the choice, such as "name".
        settings: choice → the settings that it uses and some other choice does not.
        alternative: ends the message.

    Raises:
        ConfigError: names the choices that use the setting.
    """
    chosen = getattr(section, by)
    for setting in dict.fromkeys(name for names in settings.values() for name in names):
        value, default = getattr(section, setting), getattr(type(section), setting)
        if setting not in settings.get(chosen, ()) and value != default:
            users = " or ".join(repr(choice) for choice, names in settings.items() if setting in names)
            rule = f"is for {path}.{by} = {users}; with {chosen!r} leave it at {default}{alternative}"
            raise refuse(f"{path}.{setting}", value, rule)


def nearest(wrong: str, names: Iterable[str], likeness: float = 0.6) -> str:
    """The closest match to a wrong name in any case, or "" if none is close enough (likeness: 0 to 1)."""
    by_small: dict[str, list[str]] = {}
    for name in names:
        by_small.setdefault(name.lower(), []).append(name)
    closest = difflib.get_close_matches(wrong.lower(), by_small, n=1, cutoff=likeness)
    alike = by_small[closest[0]] if closest else [""]
    return difflib.get_close_matches(wrong, alike, n=1, cutoff=0.0)[0]


def choices_of(section: type) -> dict[str, tuple[str, ...]]:
    """Field → its choices, for the fields of a section whose type is a `Literal`."""
    hints = get_type_hints(section)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
