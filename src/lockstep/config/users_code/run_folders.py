"""Where code is never imported from: run folders, which may be someone else's. No torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lockstep.config.file_retries import is_file
from lockstep.errors import ConfigError

SETTINGS, STARTS = "config.yaml", "starts.jsonl"
"""The files that make a folder a run folder."""
_opened: set[Path] = set()
"""The run folders that this process has opened, whatever files they have."""


def close_to_imports(folder: Path) -> None:
    """Makes sure that this process, and those that it starts, import nothing from a run folder.

    Where the current folder lies in it, `python -m` has it first on the path: it is taken off.
    """
    _opened.add(folder.resolve())
    leave_run_folders()


def leave_run_folders() -> None:
    """Takes run folders off the path of this process and, if it is in one, of those that it starts."""
    if enclosing_run_folder(Path.cwd()) is not None:
        os.environ["PYTHONSAFEPATH"] = "1"  # `python -m` then leaves the current folder off the path
        sys.path[:] = [place for place in sys.path if place and enclosing_run_folder(Path(place)) is None]


def enclosing_run_folder(path: Path) -> Path | None:
    """The run folder that a path is, or lies in, by its name or by where its links lead; None: in none."""
    for spelling in (path.absolute(), path.resolve()):
        for folder in (spelling, *spelling.parents):
            if folder in _opened or (_is_there(folder / SETTINGS) and _is_there(folder / STARTS)):
                return folder
    return None


def _is_there(path: Path) -> bool:
    try:
        return is_file(path)
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return False  # a folder that cannot be searched gives no module either
        raise


def importable_folders() -> list[str]:
    """The current folder, as `python -m` has it on the path; nothing if it lies in a run folder."""
    here = os.getcwd()
    return [here] if here not in sys.path and enclosing_run_folder(Path(here)) is None else []
