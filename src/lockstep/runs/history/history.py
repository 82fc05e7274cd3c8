"""What a run folder tells of the past: settings, starts, records and results, as far as whole. No torch.

No part of it is needed to train on. So what is damaged ends no run and no report: it is passed over with one
warning, and a start of the run sets it aside.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lockstep.config import NoFile, is_file, is_folder, read_file, unreadable
from lockstep.errors import ConfigError, require
from lockstep.launch import process_rank
from lockstep.runs.folder.files import (
    EVALUATIONS_FOLDER,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    SUMMARY_FILE,
    to_json,
    which_run,
    write_atomically,
)
from lockstep.runs.folder.set_aside import SET_ASIDE_FOLDER, clear_set_aside, set_aside
from lockstep.runs.history.file_contents import PARSERS, Damage

Record = dict[str, Any]
"""A flat dict of JSON values that belongs to its `step`; the numbers in it are global, over all ranks."""


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
        raise ConfigError(f"RUN = {word!r}: is not a run folder; {which_run(folder)}")
    if not read_metrics(folder):
        raise ConfigError(f"RUN = {word!r}: has no records yet; wait for train.log_every steps")
    return folder


def mend_history(folder: Path) -> None:
    """Sets aside what is damaged in a run folder, with a warning, and puts back what is whole of it.

    For a start of the run, which holds the folder's lock. Also deletes what was set aside long ago.

    Raises:
        ConfigError: a file cannot be read, or something else is where a folder belongs.
    """
    kept = folder / SET_ASIDE_FOLDER
    rule = "must be a folder, for what is set aside; move it away"
    require(is_folder(kept) or not os.path.lexists(kept), "file", str(kept), rule)
    clear_set_aside(folder)
    path = folder / EVALUATIONS_FOLDER
    if os.path.lexists(path) and not is_folder(path):
        warn_once(f"{path} is no folder and was set aside as {set_aside(path, folder)}")
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
        return PARSERS[path.name](read_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except NoFile as error:
        return None, str(error)
    except OSError as error:
        raise unreadable(error) from error
    except (Damage, ValueError, RecursionError, yaml.YAMLError) as error:
        return None, " ".join(str(error).split())
