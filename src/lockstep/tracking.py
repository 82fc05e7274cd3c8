"""Weights & Biases: no other module imports wandb."""

from __future__ import annotations

import netrc
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lockstep.checkpoint import write_atomically
from lockstep.config import TrackingConfig
from lockstep.errors import ConfigError
from lockstep.metrics import METRICS_FILE, Record, Status

WANDB_ID_FILE = "wandb-id"
INIT_SECONDS = 30  # how long to wait for W&B's server at the start
FINISH_SECONDS = 120  # and for the last uploads at the end; what is left can be synced later


class WandbRun:
    """One W&B run for the run folder, whatever number of starts it takes."""

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        mode: str,
        tree: dict[str, Any],
        notify: Callable[[str], None],
    ) -> None:
        """Starts or resumes the run.

        Args:
            folder: the run folder; W&B's own folder and the run's id are in it.
            config: project, entity and group.
            mode: online or offline; online becomes offline where the server is out of reach.
            tree: what W&B shows as the run's config.
            notify: is told, in one line, when that happens.
        """
        self._notify, self._is_troubled = notify, False
        import wandb  # slow to import, so only where it is used

        id_file = folder / WANDB_ID_FILE
        if not id_file.exists():
            write_atomically(id_file, secrets.token_hex(4))

        settings = wandb.Settings(
            console="off", silent=True, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
        )

        def init(mode: str) -> Any:
            return wandb.init(
                id=id_file.read_text(),
                resume="allow",
                project=config.project,
                entity=config.entity or None,
                group=config.group or None,
                name=folder.name,
                dir=folder,
                mode=mode,  # type: ignore[arg-type]
                config=tree,
                settings=settings,
            )

        try:
            self._run = init(mode)
        except wandb.errors.Error as error:
            # A server that is out of reach must not cost a training run.
            reason = str(error).splitlines()[0]
            notify(f"no W&B server ({reason}); offline, later: wandb sync {folder}/wandb/offline-run-*")
            wandb.teardown()  # its service still holds the run id
            self._run = init("offline")
        self._run.define_metric("samples_seen")
        self._run.define_metric("*", step_metric="samples_seen")

    def log(self, record: Record) -> None:
        numbers = {key: value for key, value in record.items() if key != "step"}
        self._guarded(lambda: self._run.log(numbers, step=record["step"]))

    def close(self, status: Status) -> None:
        if status == "interrupted":
            self._guarded(self._run.mark_preempting)
        self._guarded(lambda: self._run.finish(exit_code=0 if status == "finished" else 1))

    def _guarded(self, action: Callable[[], object]) -> None:
        """Tells of trouble with W&B once, and goes on: the records are in metrics.jsonl too."""
        try:
            action()
        except Exception as error:
            if not self._is_troubled:
                self._notify(f"W&B failed ({error}); {METRICS_FILE} has what it misses")
            self._is_troubled = True


def wandb_mode(wanted: str) -> str:
    """What `tracking.mode` comes to on this machine: online, offline or disabled.

    Raises:
        ConfigError: online was asked for, and there is no key.
    """
    if wanted == "auto":
        # W&B's own switch wins over the default, so that `WANDB_MODE=disabled` works as users know it.
        wanted = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if wanted == "online" and not has_key():
        raise ConfigError("tracking.mode = 'online': no W&B key was found; set WANDB_API_KEY, or use offline")
    return wanted


def has_key() -> bool:
    """Whether W&B would find a key without asking for one: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
