"""`--resume-from`: downloads a model artifact from W&B's server into a run folder, to resume from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lockstep.config import Config, take_option, yaml_flags
from lockstep.errors import RankError, refuse
from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    WANDB_ID_FILE,
    check_format,
    check_same_run,
    read_settings,
    step_name,
    write_atomically,
)
from lockstep.runs.checkpoint import DamagedCheckpoint, load_checkpoint
from lockstep.runs.checkpoint_folder import load_newest_checkpoint
from lockstep.tracking.artifacts import ARTIFACT_CHECKPOINT

PREFIX = "wandb:"


def with_artifact_settings(reference: str, flags: list[str]) -> list[str]:
    """The flags of the run that an artifact belongs to, followed by the user's own. Every rank fetches them.

    Raises:
        ConfigError: the reference is malformed, the server does not have it, or the flags have a --config.
    """
    file, _ = take_option(flags, "--config")
    if file:
        raise refuse(
            "--config", file, "the artifact of --resume-from has its own settings; leave one of them out"
        )
    artifact = _find_artifact(reference)
    with TemporaryDirectory() as scratch:
        with _fetch_errors_refused(reference):
            settings = artifact.get_entry(SETTINGS_FILE).download(scratch)
        return yaml_flags(Path(settings)) + flags


def install_checkpoint(reference: str, config: Config, folder: Path) -> None:
    """Puts an artifact's checkpoint into a run folder, unless that has one as new; the main rank calls it.

    A folder without a run also gets the artifact's records and the id of its W&B run.

    Raises:
        ConfigError: the reference is malformed, the server does not have it, its checkpoint is damaged, or
            its run has other settings.
    """
    artifact = _find_artifact(reference)
    step, checkpoints = artifact.metadata["step"], folder / CHECKPOINTS_FOLDER
    newest, _ = load_newest_checkpoint(checkpoints)
    if newest is not None and newest.step >= step:
        return
    with TemporaryDirectory(dir=folder, prefix=".resume-from-") as scratch:
        with _fetch_errors_refused(reference):
            download = Path(artifact.download(scratch, skip_cache=True))
        check_same_run(config, read_settings(download), f"the run of {reference}", "keep that value")
        check_format(download, f"the run of {reference}")
        try:
            load_checkpoint(download / ARTIFACT_CHECKPOINT)
        except DamagedCheckpoint as damage:
            raise refuse("--resume-from", reference, f"{damage}; use another version") from damage
        for name in (SETTINGS_FILE, METRICS_FILE, STARTS_FILE):
            if not (folder / name).exists():
                shutil.copy(download / name, folder / name)
        if not (folder / WANDB_ID_FILE).exists():
            run_id = artifact.metadata["run_id"]
            write_atomically(folder / WANDB_ID_FILE, run_id)
            # As an online start leaves it. The server has steps of this run, so no offline file may be
            # uploaded as a whole.
            (folder / "wandb" / f"run-{run_id}").mkdir(parents=True)
        checkpoints.mkdir(exist_ok=True)
        target = checkpoints / step_name(step)
        shutil.rmtree(target, ignore_errors=True)  # a damaged one
        os.replace(download / ARTIFACT_CHECKPOINT, target)


@contextmanager
def _fetch_errors_refused(reference: str) -> Iterator[None]:
    """Turns what wandb raises when a download fails into a user's mistake of one line."""
    import wandb

    try:
        yield
    except (wandb.errors.Error, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        rule = f"could not be fetched ({reason}); check the name on the run's page"
        mistake = f"--resume-from = {reference!r}: {rule}"
        raise RankError(mistake) from error


def _find_artifact(reference: str) -> Any:
    """The artifact that a reference names, without its files."""
    name = reference.removeprefix(PREFIX)
    if name == reference or name.count("/") not in (1, 2):
        raise refuse("--resume-from", reference, "must be wandb:[ENTITY/]PROJECT/NAME:ALIAS")
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    with _fetch_errors_refused(reference):
        artifact = wandb.Api().artifact(name, type="model")
    if "step" not in artifact.metadata:
        raise refuse("--resume-from", reference, "was not made by lockstep; name a run's model artifact")
    return artifact
