"""Sets parts of a run folder aside, for a month, instead of deleting them. No torch."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path

from lockstep.runs.folder.files import PARTIAL, write_atomically

SET_ASIDE_FOLDER = "set-aside"
"""In the run folder: what was damaged, and what a resume cut off because it computes it again."""
KEPT_DAYS = 30


def set_aside(path: Path, run_folder: Path) -> Path:
    """Moves a file or folder of a run folder out of the way; returns its new path."""
    target = _free_path(run_folder, path.name)
    os.replace(path, target)
    os.utime(target, follow_symlinks=False)  # a rename keeps the time of the last change
    return target


def set_aside_text(text: str, name: str, run_folder: Path) -> Path:
    """Keeps a part of a file that is cut off; returns its path."""
    target = _free_path(run_folder, name)
    write_atomically(target, text)
    return target


def clear_set_aside(run_folder: Path) -> None:
    """Deletes what was set aside more than KEPT_DAYS ago, and what killed writes left as long ago."""
    for path in (*run_folder.glob(f"{SET_ASIDE_FOLDER}/*"), *run_folder.glob(f".*{PARTIAL}")):
        if path.lstat().st_mtime < time.time() - KEPT_DAYS * 24 * 3600:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _free_path(run_folder: Path, name: str) -> Path:
    """The first of NAME.1, NAME.2 and so on that is not taken; only the holder of the folder's lock asks."""
    folder = run_folder / SET_ASIDE_FOLDER
    folder.mkdir(exist_ok=True)
    paths = (folder / f"{name}.{number}" for number in itertools.count(1))
    return next(path for path in paths if not os.path.lexists(path))
