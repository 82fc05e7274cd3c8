"""Where a run lives: run.dir / run.name, or a name derived from what defines the run. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from lockstep.config import Config, plain_values
from lockstep.runs.resume_rules import identity


def run_path(config: Config) -> Path:
    """run.dir / run.name; where no name is given, one that is derived from what defines the run."""
    return Path(config.run.dir) / (config.run.name or derived_name(config))


def derived_name(config: Config) -> str:
    """A folder name that is a pure function of what defines the run, such as 'mnist-cnn-1f0c9a2b'.

    Precision 'auto' counts as 'no', which it is unless a launcher says otherwise; then a run has put that in
    its place. So the job scripts and `lockstep doctor` can tell the name where no launcher is yet.
    """
    defining = identity(config) | ({"precision": "no"} if config.precision == "auto" else {})
    digest = hashlib.sha256(yaml.safe_dump(plain_values(defining)).encode()).hexdigest()
    model = config.model.name.rpartition(":")[2]  # of 'package.module:Class' the class
    return f"{config.data.name}-{model}-{digest[:8]}"
