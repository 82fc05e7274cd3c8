"""Uploads what W&B's server does not have yet of a run: what `lockstep sync` does for each one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock, Timeout

from lockstep.config import TrackingConfig, as_dict
from lockstep.errors import ConfigError
from lockstep.report import say
from lockstep.runs import (
    WANDB_ENDING_FILE,
    Status,
    check_links,
    read_facts,
    read_settings,
    read_starts,
    read_summary,
    run_settings,
)
from lockstep.runs.folder.folder_lock import LOCK_FILE
from lockstep.tracking.sync_command import sync_command
from lockstep.tracking.time_limits import SYNC_SECONDS
from lockstep.tracking.upload.wandb_run import WandbRun


def sync_run(folder: Path, project: str = TrackingConfig.project, entity: str = "") -> bool:
    """Completes one run on the server, as one more start of it; whether the server then has all of it.

    Args:
        folder: of the run.
        project: where the user wants to upload to. A run of another project is left alone.
        entity: the same.
    """
    try:
        check_links(folder)  # the lock's file is written too
        with FileLock(folder / LOCK_FILE, timeout=0), TemporaryDirectory() as scratch:
            config = run_settings(folder, imports=(), uses=())
            tracking = tracking_of(read_settings(folder).get("tracking"))
            if (tracking.project, tracking.entity) != (project, entity):
                project_name = f"project {tracking.project!r}" + f" of {tracking.entity!r}" * bool(
                    tracking.entity
                )
                command = sync_command(folder, tracking)
                say(f"{folder}: is a run of {project_name}; to upload it there: {command}")
                return False
            environment = {
                name: value for name, value in (read_starts(folder) or [{}])[-1].items() if name != "step"
            }
            ending = ending_of(folder)
            run = WandbRun(
                folder.resolve(),  # W&B names the run after its folder, and '.' has no name
                tracking,
                "online",
                {**as_dict(config), "environment": environment},
                notify=say,
                wandb_parent=Path(scratch),  # so that the run folder looks as its own starts left it
                extra_seconds=SYNC_SECONDS,
            )
            run.close(*ending)
    except Timeout:
        say(f"{folder}: is still training; sync it after it has ended")
        return False
    except (OSError, ConfigError) as error:
        say(f"{folder}: {error}")
        return False
    except Exception as error:  # one odd folder must not keep the others from their uploads
        say(f"{folder}: could not be uploaded ({type(error).__name__}: {' '.join(str(error).split())})")
        return False
    if run.is_complete:
        say(f"{folder}: complete")
    return run.is_complete


def tracking_of(stated: Any) -> TrackingConfig:
    """Where on W&B a run folder says that its run is: of its other settings for W&B, an upload uses none."""
    names = ("project", "entity", "group", "job_type")
    tree = stated if isinstance(stated, dict) else {}
    labels: dict[str, Any] = {name: str(tree[name]) for name in names if name in tree}
    return TrackingConfig(**labels)


def ending_of(folder: Path) -> tuple[Status, str]:
    """How the last start of a run ended and, if it failed, why. One that was killed has said nothing."""
    if read_summary(folder) is not None:
        return "finished", ""
    facts = read_facts(folder / WANDB_ENDING_FILE) or {}
    if facts.get("status") == "failed":
        return "failed", str(facts.get("reason", ""))
    return "interrupted", ""
