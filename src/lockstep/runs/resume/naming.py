"""The path of a run folder, and the name derived for a run that was not given one. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from lockstep.config import Config, leaves, plain_values
from lockstep.runs.resume.resume_rules import identity, in_order


def run_path(config: Config) -> Path:
    """run.dir / run.name; without a run.name, run.dir / `derived_name`."""
    return Path(config.run.dir) / (config.run.name or derived_name(config))


def derived_name(config: Config) -> str:
    """A folder name that is a pure function of what defines the run, such as 'mnist-cnn-1f0c9a2b'.

    A setting at its default does not count, so that a version with more settings derives the same names.
    Precision 'auto' counts as 'no', its meaning unless a launcher sets one. A run under such a launcher has
    replaced 'auto' before it asks for its name. So job scripts and `lockstep doctor`, which run without a
    launcher, derive the same name.
    """
    defaults = leaves(Config())
    defining = {
        name: value for name, value in identity(config).items() if value != in_order(name, defaults[name])
    }
    if defining.get("precision") == "no":
        del defining["precision"]
    digest = hashlib.sha256(yaml.safe_dump(plain_values(defining)).encode()).hexdigest()
    # Of 'package.module:Class' the class; of a task's reference the module, as functions share names.
    module, colon, _ = config.task.name.partition(":")
    task = module.rpartition(".")[2] if colon else module
    name = task or f"{config.data.short_name}-{config.model.name.rpartition(':')[2]}"
    return f"{name}-{digest[:8]}"
