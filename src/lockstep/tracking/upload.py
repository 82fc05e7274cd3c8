"""Gives W&B's server what it does not have yet of a run."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from lockstep.config import as_dict, parse_config
from lockstep.errors import ConfigError
from lockstep.report import say
from lockstep.runs import SETTINGS_FILE, read_starts, read_summary
from lockstep.runs.folder import LOCK_FILE
from lockstep.tracking.wandb_run import WandbRun

PATIENCE_SECONDS = 1800  # for one run


def sync_run(folder: Path) -> bool:
    """Completes one run on the server, as another start of it; whether the server has all of it then."""
    try:
        with FileLock(folder / LOCK_FILE, timeout=0), TemporaryDirectory() as scratch:
            config = parse_config(["--config", str(folder / SETTINGS_FILE)])
            environment = {name: value for name, value in read_starts(folder)[-1].items() if name != "step"}
            run = WandbRun(
                folder.resolve(),  # W&B's name of the run is the folder's, which '.' does not tell
                config.tracking,
                "online",
                {**as_dict(config), "environment": environment},
                notify=say,
                home=Path(scratch),  # so that the run folder looks as its own starts left it
                patience_seconds=PATIENCE_SECONDS,
            )
            run.close("interrupted" if read_summary(folder) is None else "finished")
    except Timeout:
        say(f"{folder}: is being trained; sync it when it has ended")
        return False
    except (OSError, ConfigError) as error:
        say(f"{folder}: {error}")
        return False
    if run.is_complete:
        say(f"{folder}: complete")
    return run.is_complete
