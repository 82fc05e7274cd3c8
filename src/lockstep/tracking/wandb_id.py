"""The id of a run's W&B run: a file in the run folder, and part of the names of wandb's own files."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

from lockstep.errors import require
from lockstep.runs import WANDB_ID_FILE, write_atomically

RESERVED = ":;,#?/'\\"
"""What wandb does not allow in an id, and what a file's name cannot have."""
MAX_LENGTH = 128


def is_wandb_id(value: object) -> bool:
    """Whether a value can be the id of a W&B run, and a part of a file's name."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_LENGTH
        and value.isprintable()
        and value == value.strip()
        and not value.startswith(".")
        and not set(value) & set(RESERVED)
    )


def read_or_make_id(folder: Path) -> str:
    """The W&B id of a run, the same over all its starts.

    Raises:
        ConfigError: what the file or WANDB_RUN_ID states cannot be an id.
    """
    path = folder / WANDB_ID_FILE
    is_made = path.exists()
    # A sweep's agent has made the run already. From now on the file decides.
    value = path.read_text(errors="replace") if is_made else os.environ.get("WANDB_RUN_ID") or token_hex(4)
    name, remedy = (str(path), "delete the file") if is_made else ("WANDB_RUN_ID", "unset it")
    require(is_wandb_id(value), name, value, f"cannot be the id of a W&B run; {remedy} to begin a new one")
    if not is_made:
        write_atomically(path, value)
    return value
