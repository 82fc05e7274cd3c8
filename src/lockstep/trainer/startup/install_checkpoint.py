"""Puts the checkpoint that a run continues from into its folder, before its first start."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import Config
from lockstep.runs.resume.resume_from import install_from_run
from lockstep.tracking.artifacts.artifact_download import install_checkpoint


def install(artifact: str, config: Config, folder: Path) -> None:
    """Installs the checkpoint of a W&B artifact, or that of the run that train.resume_from names, if any.

    Raises:
        ConfigError: there is no such checkpoint, or it is of another run than the settings allow.
    """
    if artifact:
        install_checkpoint(artifact, config, folder)
    elif config.train.resume_from:
        install_from_run(config, folder)
