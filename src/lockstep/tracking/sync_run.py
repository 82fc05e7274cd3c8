"""Uploads what W&B's server does not have yet of a run: what `lockstep sync` does for each one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from lockstep.config import as_dict, parse_config
from lockstep.errors import ConfigError
from lockstep.report import say
from lockstep.runs import SETTINGS_FILE, check_links, read_starts, read_summary
from lockstep.runs.folder_lock import LOCK_FILE
from lockstep.tracking.time_limits import SYNC_SECONDS
from lockstep.tracking.wandb_run import WandbRun


def sync_run(folder: Path) -> bool:
    """Completes one run on the server, as one more start of it; whether the server then has all of it."""
    try:
        check_links(folder)  # the lock's file is written too
        with FileLock(folder / LOCK_FILE, timeout=0), TemporaryDirectory() as scratch:
            config = parse_config(["--config", str(folder / SETTINGS_FILE)])
            environment = {
                name: value for name, value in (read_starts(folder) or [{}])[-1].items() if name != "step"
            }
            run = WandbRun(
                folder.resolve(),  # W&B names the run after its folder, and '.' has no name
                config.tracking,
                "online",
                {**as_dict(config), "environment": environment},
                notify=say,
                wandb_parent=Path(scratch),  # so that the run folder looks as its own starts left it
                extra_seconds=SYNC_SECONDS,
            )
            run.close("interrupted" if read_summary(folder) is None else "finished")
    except Timeout:
        say(f"{folder}: is still training; sync it after it has ended")
        return False
    except (OSError, ConfigError) as error:
        say(f"{folder}: {error}")
        return False
    if run.is_complete:
        say(f"{folder}: complete")
    return run.is_complete
