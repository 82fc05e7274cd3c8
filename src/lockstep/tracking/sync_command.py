"""The command that uploads a run later. It names where to: a run folder alone does not decide. No torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from lockstep.config import TrackingConfig


def sync_command(folder: Path, tracking: TrackingConfig) -> str:
    """`lockstep sync` for a run folder, with the project and entity of its run, for the user to paste."""
    words = ["lockstep", "sync", str(folder)]
    for name in ("project", "entity"):
        value = getattr(tracking, name)
        if value != getattr(TrackingConfig, name):
            words += [f"--tracking.{name}", value]
    return shlex.join(words)
