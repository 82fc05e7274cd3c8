"""`lockstep sync`: gives W&B's server what it does not have of the runs under a folder."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from lockstep.arguments import parse_config
from lockstep.config_tree import as_dict
from lockstep.console import say
from lockstep.errors import ConfigError, refuse
from lockstep.run_files import SETTINGS_FILE, read_starts, read_summary
from lockstep.run_folder import LOCK_FILE
from lockstep.tracking import WandbRun
from lockstep.tracking.mode import has_key
from lockstep.tracking.wandb_run import SYNCED_FILE, WANDB_ID_FILE

HELP = """usage: lockstep sync DIR...

Give W&B's server what it does not have of the runs in DIR, a run folder or a folder of them. Needs a key.
Prints a line for each run that was not complete there; exit code 1 if one still is not.
"""

PATIENCE_SECONDS = 1800  # for one run


def sync(argv: list[str]) -> int:
    """Completes every run under the folders in argv; the exit code.

    Raises:
        ConfigError: there is no key, or no run that was logged to W&B under a folder.
    """
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else 2
    if not has_key():
        raise ConfigError("no W&B key was found; set WANDB_API_KEY, or run: wandb login")
    runs: list[Path] = []
    for name in argv:
        found = sorted(
            path.parent for pattern in ("", "*/") for path in Path(name).glob(pattern + WANDB_ID_FILE)
        )
        if not found:
            raise refuse("DIR", name, "holds no run that was logged to W&B; name runs or runs/NAME")
        runs += found
    waiting = [folder for folder in runs if not (folder / SYNCED_FILE).exists()]
    num_failed = sum(not sync_run(folder) for folder in waiting)
    say(f"{len(runs) - num_failed} of {len(runs)} runs are complete on W&B's server")
    return 1 if num_failed else 0


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
