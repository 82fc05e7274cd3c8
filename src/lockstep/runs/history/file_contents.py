"""What each file of a run folder must hold: read from its bytes, which anyone may have written. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import yaml

from lockstep.config import Config, as_dict
from lockstep.errors import counted
from lockstep.runs.folder.files import (
    DATASET_FILE,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    SUMMARY_FILE,
    TASK_FILE,
    WANDB_ENDING_FILE,
)

TEXT_IN_RECORDS = ("weights_digest",)
"""All other values of a record are numbers or null."""
LARGEST = 2**63
"""Whole numbers are below: an array holds no larger ones."""
MAX_SETTINGS = 10_000
"""Values in a settings file: with its references, YAML makes billions of a few lines."""

Kind = Callable[[Any], bool]
"""Whether a JSON value is of some kind."""


class Damage(Exception):
    """A file does not hold what it should; the message says why."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isascii()


def _is_number(value: Any) -> bool:
    """Any that a float holds, or null."""
    if isinstance(value, int):
        return abs(value) < LARGEST
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_list(kind: Kind, value: Any) -> bool:
    return isinstance(value, list) and all(map(kind, value))


def _is_map(kind: Kind, value: Any) -> bool:
    return isinstance(value, dict) and all(map(kind, value.values()))


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_anything(value: Any) -> bool:
    return True


OF_A_START: dict[str, Kind] = {
    "step": _is_count,
    "format": _is_positive,
    "world_size": _is_positive,
    "num_threads": _is_positive,
    "device": _is_string,
    "signature": _is_text,
    **dict.fromkeys(("versions", "packages", "sources"), partial(_is_map, _is_string)),
    **dict.fromkeys(("cpu", "gpu"), partial(_is_map, _is_anything)),
    "git": lambda value: value is None or isinstance(value, dict),
    "accepted_sources": partial(_is_list, _is_string),
}
OF_A_SUMMARY: dict[str, Kind] = {
    "steps": _is_count,
    "train_seconds": lambda value: value is not None and _is_number(value),
    "weights_sha256": _is_text,
    "samples_seen": _is_count,
    "world_size": _is_positive,
    "device": _is_string,
}
OF_A_TASK: dict[str, Kind] = {
    "headline": _is_string,
    "higher_is_better": lambda value: isinstance(value, bool),
    "classes": partial(_is_list, _is_string),
    "name": _is_string,
    "initial_weights": _is_string,
}
OF_DATA: dict[str, Kind] = {"name": _is_string, **dict.fromkeys(("num_train", "num_test"), _is_count)}
OF_MEASURED_IMAGES: dict[str, Kind] = {
    "classes": partial(_is_list, _is_string),
    "channels": _is_positive,
    "size": _is_positive,
    **dict.fromkeys(
        ("mean", "std"), partial(_is_list, lambda value: value is not None and _is_number(value))
    ),
    "num_test": _is_count,
}
"""What `dataset.json` must hold if it has any of it."""


def _object(kinds: Mapping[str, Kind], needed: tuple[str, ...], content: bytes) -> tuple[dict[str, Any], str]:
    value = json.loads(content.decode())
    if not isinstance(value, dict) or not set(needed) <= set(value):
        raise Damage(f"does not hold {', '.join(needed)}")
    wrong = _wrong(kinds, value)
    if wrong:
        raise Damage(f"{wrong} is {json.dumps(value[wrong])[:40]}")
    return value, ""


def _dataset(content: bytes) -> tuple[dict[str, Any], str]:
    has_measured = b'"channels"' in content
    kinds = {**OF_DATA, **(OF_MEASURED_IMAGES if has_measured else {})}
    return _object(kinds, ("name", *(OF_MEASURED_IMAGES if has_measured else ())), content)


def _wrong(kinds: Mapping[str, Kind], value: Mapping[str, Any]) -> str:
    """The first value that is not of its kind; empty if there is none."""
    return next((name for name, is_right in kinds.items() if name in value and not is_right(value[name])), "")


def _lines(is_valid: Kind, content: bytes) -> tuple[list[dict[str, Any]], str]:
    """The valid ones of JSON values, one a line. A last line that a kill cut short is not damage."""
    *lines, _ = content.decode(errors="replace").split("\n")
    values, wrong = [], []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line, parse_constant=lambda _: None)  # older versions wrote NaN
        except (ValueError, RecursionError):
            value = None
        if is_valid(value):
            values.append(value)
        else:
            wrong.append(number)
    others = f" and {counted(len(wrong) - 1, 'other')}" if len(wrong) > 1 else ""
    return values, f"line {wrong[0]}{others}" if wrong else ""


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(_is_positive(value.get(name)) for name in ("step", "samples_seen"))
        and all(
            isinstance(entry, str) if name in TEXT_IN_RECORDS else _is_number(entry)
            for name, entry in value.items()
        )
    )


def _is_start(value: Any) -> bool:
    return isinstance(value, dict) and "step" in value and not _wrong(OF_A_START, value)


def _settings(content: bytes) -> tuple[dict[str, Any], str]:
    tree = yaml.safe_load(content.decode())
    if not isinstance(tree, dict):
        raise Damage("holds no settings")
    for name, value in as_dict(Config()).items():
        if isinstance(value, dict) and not isinstance(tree.get(name, {}), dict):
            raise Damage(f"{name} is not a group of settings")
    for number, value in enumerate(_values(tree)):
        if number == MAX_SETTINGS:
            raise Damage(f"holds more than {MAX_SETTINGS:,} values")
        if not isinstance(value, str | int | float | None):
            raise Damage(f"holds a {type(value).__name__}, {value}")
    return tree, ""


def _values(tree: Any) -> Iterator[Any]:
    """The keys and leaves of a tree."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from _values(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values(value)
    else:
        yield tree


PARSERS: dict[str, Callable[[bytes], tuple[Any, str]]] = {
    SETTINGS_FILE: _settings,
    STARTS_FILE: partial(_lines, _is_start),
    METRICS_FILE: partial(_lines, _is_record),
    SUMMARY_FILE: partial(_object, OF_A_SUMMARY, ("steps", "train_seconds", "weights_sha256")),
    TASK_FILE: partial(_object, OF_A_TASK, ("headline", "higher_is_better", "classes")),
    DATASET_FILE: _dataset,
    WANDB_ENDING_FILE: partial(_object, {"status": _is_string, "reason": _is_string}, ("status",)),
}
"""By file name, what reads the bytes of a file: what is whole of it, and what is wrong with the rest."""
