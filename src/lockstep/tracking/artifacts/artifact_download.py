"""`--resume-from`: downloads a model artifact from W&B's server into a run folder, to resume from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from lockstep.config import Config, is_file, take_option
from lockstep.errors import ConfigError, RankError, refuse, require
from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    SETTINGS_FILE,
    STARTS_FILE,
    TO_TRAIN,
    WANDB_ID_FILE,
    check_format,
    check_history,
    check_same_run,
    read_settings,
    set_aside,
    stated_settings,
    step_name,
    write_atomically,
)
from lockstep.runs.checkpoints.checkpoint import (
    CHECKPOINT_FILES,
    DamagedCheckpoint,
    load_checkpoint,
    weights_sha256,
)
from lockstep.runs.checkpoints.checkpoint_folder import load_newest_checkpoint
from lockstep.tracking.artifacts.artifacts import ARTIFACT_CHECKPOINT
from lockstep.tracking.wandb_id import is_wandb_id
from lockstep.tracking.wandb_login import follow_environment, settings_files

PREFIX = "wandb:"
RECORDS = (SETTINGS_FILE, METRICS_FILE, STARTS_FILE)


@dataclass(frozen=True, kw_only=True)
class ModelArtifact:
    """A model artifact on the server, whose metadata is in order; none of its files are here yet."""

    reference: str
    artifact: Any
    """wandb's."""
    step: int
    """That of its checkpoint."""
    run_id: str
    weights_sha256: str
    option: str = "--resume-from"
    """The user's option that names it, for messages."""

    def fetch(self, name: str, folder: Path) -> Path:
        """Downloads one of its files into a folder, past wandb's cache; the file's path.

        Raises:
            ConfigError: the artifact does not hold this file itself, or the server does not send it.
        """
        with _fetch_errors_refused(self.reference, self.option):
            entry = self.artifact.get_entry(name)
            if entry.ref is not None:  # such as file:///etc/passwd
                raise ValueError(f"{name} is a reference to {entry.ref}")
            return Path(entry.download(str(folder), skip_cache=True))


def artifact_config(reference: str, flags: list[str]) -> Config:
    """The settings of the run that an artifact belongs to, with the user's flags. Every rank fetches them.

    The run keeps its name and its place on W&B, as far as the reference, which the user states, has them.

    Raises:
        ConfigError: the reference is malformed, the server does not have it, the flags have a --config, or
            the artifact names code that is not imported; see `run_settings`.
    """
    file, _ = take_option(flags, "--config")
    if file:
        raise refuse(
            "--config", file, "the artifact of --resume-from has its own settings; leave one of them out"
        )
    artifact = find_artifact(reference)
    *entity, project, name = reference.removeprefix(PREFIX).split("/")
    location = [f"--run.name={name.partition(':')[0]}", f"--tracking.project={project}"]
    location += [f"--tracking.entity={each}" for each in entity]
    with TemporaryDirectory() as scratch:
        for each in (SETTINGS_FILE, STARTS_FILE):
            artifact.fetch(each, Path(scratch))
        uses = ("data.root", "tracking.group", "tracking.job_type")
        return stated_settings(Path(scratch), [*location, *flags], reference, imports=TO_TRAIN, uses=uses)


def install_checkpoint(reference: str, config: Config, folder: Path) -> None:
    """Puts an artifact's checkpoint into a run folder, unless that has one as new; the main rank calls it.

    A folder without a run also gets the artifact's records and the id of its W&B run. Until all of it is
    here and in order, the folder stays as it is.

    Raises:
        ConfigError: the reference is malformed, the server does not have it, something in it is damaged or
            contradicts the rest, or its run has other settings.
    """
    artifact = find_artifact(reference)
    newest, _ = load_newest_checkpoint(folder / CHECKPOINTS_FOLDER)
    if newest is not None and newest.step >= artifact.step:
        return
    with TemporaryDirectory(dir=folder, prefix=".resume-from-") as scratch:
        download = Path(scratch)
        for name in RECORDS:
            artifact.fetch(name, download)
        fetch_checkpoint(artifact, download)
        check_download(artifact, download)
        check_same_run(config, read_settings(download), f"the run of {reference}", "keep that value")
        publish(artifact, download, folder)


def artifact_weights(reference: str, option: str) -> dict[str, Tensor]:
    """The weights in an artifact's checkpoint.

    Raises:
        ConfigError: the reference is malformed, the server does not have it, or it is damaged.
    """
    artifact = find_artifact(reference, option)
    with TemporaryDirectory() as scratch:
        fetch_checkpoint(artifact, Path(scratch))
        try:
            weights = load_checkpoint(Path(scratch) / ARTIFACT_CHECKPOINT).weights
        except DamagedCheckpoint as damage:
            raise refuse(option, reference, f"is damaged ({damage}); use another version") from damage
    rule = "has weights that differ from its metadata; use another version"
    require(weights_sha256(weights) == artifact.weights_sha256, option, reference, rule)
    return weights


def fetch_checkpoint(artifact: ModelArtifact, folder: Path) -> None:
    """Downloads the files of an artifact's checkpoint into a folder.

    Raises:
        ConfigError: the server does not send one.
    """
    names = [f"{ARTIFACT_CHECKPOINT}/{name}" for name in CHECKPOINT_FILES]
    for name in names:
        if name in artifact.artifact.manifest.entries:
            artifact.fetch(name, folder)


def check_download(artifact: ModelArtifact, download: Path) -> None:
    """Checks the files of an artifact, and that they are what its metadata says.

    Raises:
        ConfigError: one is damaged, or does not fit.
    """
    reference = artifact.reference
    try:
        check_history(download)
        checkpoint = load_checkpoint(download / ARTIFACT_CHECKPOINT)
    except (DamagedCheckpoint, ConfigError) as error:
        damage = str(error).replace(f"{download}{os.sep}", "")
        raise refuse("--resume-from", reference, f"is damaged ({damage}); use another version") from error
    check_format(download, f"the run of {reference}")
    rule = f"says step {artifact.step}, and its checkpoint is of step {checkpoint.step}; use another version"
    require(checkpoint.step == artifact.step, "--resume-from", reference, rule)
    rule = "has weights that differ from its metadata; use another version"
    is_same = weights_sha256(checkpoint.weights) == artifact.weights_sha256
    require(is_same, "--resume-from", reference, rule)


def publish(artifact: ModelArtifact, download: Path, folder: Path) -> None:
    """Moves what was downloaded and checked into the run folder: the id of the W&B run last."""
    for name in RECORDS:
        if not is_file(folder / name):
            os.replace(download / name, folder / name)
    (folder / CHECKPOINTS_FOLDER).mkdir(exist_ok=True)
    target = folder / CHECKPOINTS_FOLDER / step_name(artifact.step)
    if target.exists():
        set_aside(target, folder)  # a damaged one
    os.replace(download / ARTIFACT_CHECKPOINT, target)
    if not (folder / WANDB_ID_FILE).exists():
        # As an online start leaves it. The server has steps of this run, so no offline file may be uploaded
        # as a whole.
        (folder / "wandb" / f"run-{artifact.run_id}").mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WANDB_ID_FILE, artifact.run_id)


@contextmanager
def _fetch_errors_refused(reference: str, option: str) -> Iterator[None]:
    """Turns what wandb raises when a download fails into a user's mistake of one line."""
    import wandb

    try:
        yield
    except (wandb.errors.Error, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        rule = f"could not be fetched ({reason}); check the name on the run's page"
        raise RankError(f"{option} = {reference!r}: {rule}") from error


def find_artifact(reference: str, option: str = "--resume-from") -> ModelArtifact:
    """The artifact that a reference names, which the user gave with an option.

    Raises:
        ConfigError: the reference is malformed, the server does not have it, or its metadata is not that of a
            run's checkpoint.
    """
    name = reference.removeprefix(PREFIX)
    if name == reference or name.count("/") not in (1, 2):
        raise refuse(option, reference, "must be wandb:[ENTITY/]PROJECT/NAME:ALIAS")
    with _fetch_errors_refused(reference, option):
        artifact = _on_server(name)
    facts = checked(reference, artifact.metadata, option)
    return ModelArtifact(reference=reference, artifact=artifact, option=option, **facts)


def checked(reference: str, metadata: Mapping[str, Any], option: str) -> dict[str, Any]:
    """The facts in an artifact's metadata, which anyone may have written.

    Raises:
        ConfigError: one is missing, or is not what it must be.
    """
    rule = "was not made by lockstep; name a run's model artifact"
    facts = {name: metadata.get(name) for name in ("step", "run_id", "weights_sha256")}
    for name, is_right in {
        "step": type(facts["step"]) is int and facts["step"] >= 0,
        "run_id": is_wandb_id(facts["run_id"]),
        "weights_sha256": isinstance(facts["weights_sha256"], str),
    }.items():
        require(is_right, option, reference, f"{rule} ({name} in its metadata is {facts[name]!r})")
    return facts


def _on_server(name: str) -> Any:
    import wandb

    settings_files()  # refuses those of a run folder
    follow_environment()
    wandb.setup(wandb.Settings(silent=True))
    return wandb.Api().artifact(name, type="model")
