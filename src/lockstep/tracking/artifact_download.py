"""From a model artifact on W&B's server back to a run folder."""

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
    check_same_run,
    read_settings,
    step_name,
    write_atomically,
)
from lockstep.runs.checkpoint import DamagedCheckpoint, load_checkpoint
from lockstep.runs.checkpoint_folder import load_newest_checkpoint
from lockstep.tracking.artifacts import CHECKPOINT_FOLDER
from lockstep.tracking.wandb_run import WANDB_ID_FILE

PREFIX = "wandb:"


def with_artifact(reference: str, flags: list[str]) -> list[str]:
    """The flags of the run that an artifact is of, and the user's own after them; every rank asks for them.

    Raises:
        ConfigError: the reference is none, the server does not have it, or there is a settings file besides.
    """
    file, _ = take_option(flags, "--config")
    if file:
        raise refuse(
            "--config", file, "the artifact of --resume-from has its own settings; leave one of them out"
        )
    artifact = _find(reference)
    with TemporaryDirectory() as scratch:
        with _from_server(reference):
            settings = artifact.get_entry(SETTINGS_FILE).download(scratch)
        return yaml_flags(Path(settings)) + flags


def install_checkpoint(reference: str, config: Config, folder: Path) -> None:
    """Puts an artifact's checkpoint into a run folder, unless that is as far already; for the main rank.

    A folder without a run gets the records and the W&B run of the artifact's, too.

    Raises:
        ConfigError: the reference is none, the server does not have it, its checkpoint is damaged, or it is
            of a run with other settings.
    """
    artifact = _find(reference)
    step, checkpoints = artifact.metadata["step"], folder / CHECKPOINTS_FOLDER
    newest, _ = load_newest_checkpoint(checkpoints)
    if newest is not None and newest.step >= step:
        return
    with TemporaryDirectory(dir=folder, prefix=".resume-from-") as scratch:
        with _from_server(reference):
            content = Path(artifact.download(scratch, skip_cache=True))
        check_same_run(config, read_settings(content), f"the run of {reference}", "leave it as it was")
        try:
            load_checkpoint(content / CHECKPOINT_FOLDER)
        except DamagedCheckpoint as damage:
            raise refuse("--resume-from", reference, f"{damage}; use another version") from damage
        for name in (SETTINGS_FILE, METRICS_FILE, STARTS_FILE):
            if not (folder / name).exists():
                shutil.copy(content / name, folder / name)
        if not (folder / WANDB_ID_FILE).exists():
            run_id = artifact.metadata["run_id"]
            write_atomically(folder / WANDB_ID_FILE, run_id)
            # As an online start leaves it: the server has steps of this run, so offline files are not for it.
            (folder / "wandb" / f"run-{run_id}").mkdir(parents=True)
        checkpoints.mkdir(exist_ok=True)
        target = checkpoints / step_name(step)
        shutil.rmtree(target, ignore_errors=True)  # a damaged one
        os.replace(content / CHECKPOINT_FOLDER, target)


@contextmanager
def _from_server(reference: str) -> Iterator[None]:
    """Tells in one line what W&B's client raises where something cannot be had."""
    import wandb

    try:
        yield
    except (wandb.errors.Error, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        mistake = f"--resume-from = {reference!r}: cannot be had ({reason}); see the run's page"
        raise RankError(mistake) from error


def _find(reference: str) -> Any:
    name = reference.removeprefix(PREFIX)
    if name == reference or name.count("/") not in (1, 2):
        raise refuse("--resume-from", reference, "must be wandb:[ENTITY/]PROJECT/NAME:ALIAS")
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    with _from_server(reference):
        artifact = wandb.Api().artifact(name, type="model")
    if "step" not in artifact.metadata:
        raise refuse("--resume-from", reference, "was not made by lockstep; name a run's model artifact")
    return artifact
