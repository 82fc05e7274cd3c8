"""Operations on the config tree: its leaves, its YAML text, and which of its leaves define a run."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from lockstep.config import Config

# These may differ between two starts of one run: they say where things are and what is reported, not what
# is computed. `metrics.jsonl` and the checkpoints follow the newest start.
MAY_CHANGE = (
    "run.name",
    "run.dir",
    "data.root",
    "data.storage",
    "data.num_workers",
    "data.fetch_timeout_seconds",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.digest_every",
    "train.keep_checkpoints",
    "train.check_order",
    "train.report",
    "tracking.mode",
    "tracking.project",
    "tracking.entity",
    "tracking.group",
    "tracking.job_type",
    "tracking.watch",
)


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted field name → value, for every leaf of a config tree."""
    found: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            found |= leaves(value, f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = value
    return found


def identity(config: Config) -> dict[str, Any]:
    """The leaves that define the run: two starts of one run must agree in all of them."""
    return {name: value for name, value in leaves(config).items() if name not in MAY_CHANGE}


def differences(config: Config, saved: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Of what defines the run, the leaves in which a saved tree differs: name → (value now, value saved)."""
    now, before = _plain(identity(config)), saved_identity(saved)
    return {name: (now[name], before[name]) for name in now if now[name] != before[name]}


def saved_identity(saved: dict[str, Any]) -> dict[str, Any]:
    """`identity` of a tree read from YAML. A leaf that it does not have yet was at its default."""
    defaults = _plain(identity(Config()))

    def value(name: str) -> Any:
        found: Any = saved
        for key in name.split("."):
            if key not in found:
                return defaults[name]
            found = found[key]
        return found

    return {name: value(name) for name in defaults}


def run_folder(config: Config) -> Path:
    """run.dir / run.name; where no name is given, one that is derived from what defines the run."""
    return Path(config.run.dir) / (config.run.name or derived_name(config))


def derived_name(config: Config) -> str:
    """A folder name that is a pure function of what defines the run, such as 'mnist-cnn-1f0c9a2b'.

    Precision 'auto' counts as 'no', which it is unless a launcher says otherwise; then a run has put that in
    its place. So the job scripts and `lockstep doctor` can tell the name where no launcher is yet.
    """
    defining = identity(config) | ({"precision": "no"} if config.precision == "auto" else {})
    digest = hashlib.sha256(yaml.safe_dump(_plain(defining)).encode()).hexdigest()
    model = config.model.name.rpartition(":")[2]  # of 'package.module:Class' the class
    return f"{config.data.name}-{model}-{digest[:8]}"


def as_dict(config: Config) -> dict[str, Any]:
    """The tree as nested dicts of plain values, as it is written to YAML and sent to W&B."""
    return _plain(asdict(config))


def to_yaml(config: Config) -> str:
    """The tree as the YAML file that `--config` reads back."""
    return yaml.safe_dump(as_dict(config), sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
