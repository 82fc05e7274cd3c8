"""What earlier starts left in W&B's own folder: the steps it holds, and the upload of offline starts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from lockstep.tracking import time_limits
from lockstep.tracking.offline.wandb_file import read_wandb_file


def highest_logged_step(folder: Path) -> int:
    """The newest step in the `.wandb` files of a run folder; 0 if they hold none."""
    steps = [
        record.history.step.num
        for path in (folder / "wandb").glob("*run-*/run-*.wandb")
        for record in read_wandb_file(path)
        if record.WhichOneof("record_type") == "history"
    ]
    return max(steps, default=0)


def upload_offline_starts(folder: Path) -> None:
    """Lets `wandb sync` upload the offline starts of a run, oldest first: it appends them to one W&B run.

    If any start was online, the server may have some of the steps, and wandb would append them again. Then
    nothing is uploaded here, and the steps come from the run folder's own records. A file that a kill left
    without any record is skipped, since wandb would stop at it. A failure raises nothing: the records fill
    the gap then, too.
    """
    if any((folder / "wandb").glob("run-*")):
        return
    pending = [
        str(path)
        for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
        if not path.with_name(f"{path.name}.synced").exists()
        and next(read_wandb_file(path), None) is not None
    ]
    if pending:
        command = [sys.executable, "-m", "wandb", "sync", *pending]
        with suppress(subprocess.SubprocessError):
            subprocess.run(
                command, check=False, capture_output=True, timeout=time_limits.OFFLINE_SYNC_SECONDS
            )
