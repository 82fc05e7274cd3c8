"""What a run folder tells of the past: settings, starts, records and results, as far as whole. No torch.

No part of it is needed to train on. So what is damaged ends no run and no report: it is passed over with one
warning, and a start of the run sets it aside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from lockstep.config import Config, as_dict, error_text, is_file, with_retries
from lockstep.errors import ConfigError, counted
from lockstep.launch import process_rank
from lockstep.runs.folder.files import (
    DATASET_FILE,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    SUMMARY_FILE,
    TASK_FILE,
    WANDB_ENDING_FILE,
    to_json,
    write_atomically,
)
from lockstep.runs.folder.set_aside import clear_set_aside, set_aside

Record = dict[str, Any]
"""A flat dict of JSON values that belongs to its `step`; the numbers in it are global, over all ranks."""
TEXT_IN_RECORDS = ("weights_digest",)
"""All other values of a record are numbers or null."""


class _Damage(Exception):
    """A file does not hold what it should; the message says why."""


def read_settings(folder: Path) -> dict[str, Any]:
    """The config tree of a run; empty if it is damaged."""
    return _read(folder / SETTINGS_FILE, {})


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """The starts of a run, oldest first: the step each began after, and its environment."""
    return _read(folder / STARTS_FILE, [])


def read_metrics(folder: Path) -> list[Record]:
    """The records of a run."""
    return _read(folder / METRICS_FILE, [])


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run; None if the run is not finished."""
    return _read(folder / SUMMARY_FILE, None)


def read_facts(path: Path) -> dict[str, Any] | None:
    """What a JSON file of a run, such as task.json, holds; None if there is none, or it is damaged."""
    return _read(path, None)


def resume_steps(starts: list[dict[str, Any]]) -> list[int]:
    """The steps after which a run was resumed, without resumes whose steps a later start computed again."""
    steps: list[int] = []
    for start in starts:
        steps = [step for step in steps if step < start["step"]] + [start["step"]]
    return [step for step in steps if step > 0]


def recorded_run(word: str) -> Path:
    """The run folder that a command-line argument names.

    Raises:
        ConfigError: it is not a run folder, or has no records yet.
    """
    folder = Path(word)
    if not is_file(folder / SETTINGS_FILE):
        raise ConfigError(f"RUN = {word!r}: is not a run folder; name one, such as runs/NAME")
    if not read_metrics(folder):
        raise ConfigError(f"RUN = {word!r}: has no records yet; wait for train.log_every steps")
    return folder


def mend_history(folder: Path) -> None:
    """Sets aside what is damaged in a run folder, with a warning, and puts back what is whole of it.

    For a start of the run, which holds the folder's lock. Also deletes what was set aside long ago.

    Raises:
        ConfigError: a file cannot be read.
    """
    clear_set_aside(folder)
    for name in PARSERS:
        path = folder / name
        whole, damage = _parsed(path)
        if damage:
            moved = set_aside(path, folder)
            if isinstance(whole, list):
                write_atomically(path, "".join(f"{to_json(entry)}\n" for entry in whole))
            unchecked = "; this start's settings cannot be compared with it" if name == SETTINGS_FILE else ""
            warn_once(f"{path} is damaged ({damage}) and was set aside as {moved}{unchecked}")


def check_history(folder: Path) -> None:
    """Checks the files of a folder from elsewhere, of which nothing is taken if one is damaged.

    Raises:
        ConfigError: one is damaged, or cannot be read.
    """
    for name in PARSERS:
        _, damage = _parsed(folder / name)
        if damage:
            raise ConfigError(f"{folder / name}: {damage}")


def _read(path: Path, default: Any) -> Any:
    """What is whole of a file, with a warning if that is not all; the default if there is nothing."""
    whole, damage = _parsed(path)
    if damage:
        warn_once(f"{path} is damaged ({damage}); continuing without it")
    return default if whole is None else whole


@cache
def warn_once(message: str) -> None:
    """Prints a warning on the main rank, the first time that it comes."""
    if process_rank() == 0:
        print(f"lockstep: warning: {message}", file=sys.stderr, flush=True)


def _parsed(path: Path) -> tuple[Any, str]:
    """What is whole of a file (None: nothing, or there is no file), and what is wrong with the rest.

    Raises:
        ConfigError: it cannot be read, which does not mean that it is damaged.
    """
    try:
        return PARSERS[path.name](with_retries(path, path.read_bytes))
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except IsADirectoryError:
        return None, "is a folder"
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error_text(error)}); make it readable") from error
    except (_Damage, ValueError, RecursionError, yaml.YAMLError) as error:
        return None, " ".join(str(error).split())


def _lines(is_valid: Callable[[Any], bool], content: bytes) -> tuple[list[dict[str, Any]], str]:
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
        and all(type(value.get(name)) is int and value[name] > 0 for name in ("step", "samples_seen"))
        and all(
            isinstance(entry, str if name in TEXT_IN_RECORDS else int | float | None)
            for name, entry in value.items()
        )
    )


def _is_start(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    step, threads = value.get("step"), value.get("num_threads", 1)
    has_groups = all(isinstance(value.get(name, {}), dict) for name in ("versions", "packages", "sources"))
    return type(step) is int and step >= 0 and type(threads) is int and threads > 0 and has_groups


def _settings(content: bytes) -> tuple[dict[str, Any], str]:
    tree = yaml.safe_load(content.decode())
    if not isinstance(tree, dict):
        raise _Damage("holds no settings")
    for name, value in as_dict(Config()).items():
        if isinstance(value, dict) and not isinstance(tree.get(name, {}), dict):
            raise _Damage(f"{name} is not a group of settings")
    return tree, ""


def _json_object(names: tuple[str, ...], content: bytes) -> tuple[dict[str, Any], str]:
    value = json.loads(content.decode())
    if not isinstance(value, dict) or not set(names) <= set(value):
        raise _Damage(f"does not hold {', '.join(names)}")
    return value, ""


PARSERS: dict[str, Callable[[bytes], tuple[Any, str]]] = {
    SETTINGS_FILE: _settings,
    STARTS_FILE: partial(_lines, _is_start),
    METRICS_FILE: partial(_lines, _is_record),
    SUMMARY_FILE: partial(_json_object, ("steps", "train_seconds", "weights_sha256")),
    TASK_FILE: partial(_json_object, ("headline", "higher_is_better", "classes")),
    DATASET_FILE: partial(_json_object, ("name",)),
    WANDB_ENDING_FILE: partial(_json_object, ("status",)),
}
"""By file name, what reads the bytes of a file: what is whole of it, and what is wrong with the rest."""
