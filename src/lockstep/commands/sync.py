"""`lockstep sync`: uploads what W&B does not have of runs."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import TrackingConfig, take_option
from lockstep.errors import EXIT_USAGE, ConfigError, counted, refuse
from lockstep.report import say
from lockstep.runs import SYNCED_FILE, WANDB_ID_FILE
from lockstep.tracking import has_key

HELP = """usage: lockstep sync DIR... [--tracking.project lockstep] [--tracking.entity ENTITY]

Upload what W&B's server does not have yet of the runs in DIR, a run folder or a folder of run folders.
Needs a W&B key. Prints one line for each run that was not complete on the server; exit code 1 if one still
is not. Runs of another project or entity than you name are left alone, with a line that names theirs.
"""


def sync(argv: list[str]) -> int:
    """Completes every run in the folders that argv names, and returns the exit code.

    Raises:
        ConfigError: there is no key, or a folder holds no run that was logged to W&B.
    """
    project, words = take_option(argv, "--tracking.project")
    entity, words = take_option(words, "--tracking.entity")
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    if not has_key():
        raise ConfigError("no W&B key was found; set WANDB_API_KEY, or run: wandb login")
    runs: list[Path] = []
    for name in words:
        logged = sorted(
            path.parent for pattern in ("", "*/") for path in Path(name).glob(pattern + WANDB_ID_FILE)
        )
        if not logged:
            raise refuse("DIR", name, "holds no run that was logged to W&B; name runs or runs/NAME")
        runs += logged
    incomplete = [folder for folder in runs if not (folder / SYNCED_FILE).exists()]
    from lockstep.tracking.sync_run import sync_run  # imports torch, which is slow

    num_failed = sum(not sync_run(folder, project or TrackingConfig.project, entity) for folder in incomplete)
    say(f"{len(runs) - num_failed} of {counted(len(runs), 'run')} complete on W&B's server")
    return 1 if num_failed else 0
