"""A home folder for libraries that write there, where the user has none or may not write to it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

CACHES = ("MPLCONFIGDIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
"""Where matplotlib and W&B keep what they can make again. W&B's settings stay where they are."""


def lend_home() -> None:
    """Lets matplotlib and W&B write into a temporary folder, if the user's home folder cannot be written.

    Containers and clusters run programs as users without an entry in passwd, or mount /home for reading.
    Each library copes by itself, or not at all, in lines that hide those of the run.
    """
    home = Path("~").expanduser() if "HOME" in os.environ or _has_entry() else Path("~")
    if home.is_absolute() and os.access(home, os.W_OK | os.X_OK):
        return
    folder = tempfile.mkdtemp(prefix="lockstep-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if not home.is_absolute():
        os.environ["HOME"] = folder
    for name in CACHES:
        os.environ.setdefault(name, folder)


def _has_entry() -> bool:
    """Whether the user is in passwd; without an entry, `Path.expanduser` fails."""
    return os.path.expanduser("~") != "~"
