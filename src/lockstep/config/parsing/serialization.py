"""The config tree as plain data: leaves by dotted name, nested dicts, and YAML text."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import Any

import yaml

from lockstep.config.keyword_arguments import ValueDumper
from lockstep.config.settings.settings import BUILT_IN_TASK_SETTINGS, Config


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted field name → value, for every leaf of a config tree."""
    by_name: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            by_name |= leaves(value, f"{prefix}{entry.name}.")
        else:
            by_name[prefix + entry.name] = value
    return by_name


def as_dict(config: Config) -> dict[str, Any]:
    """The tree as nested dicts of plain values, as written to YAML and sent to W&B.

    The settings of the built-in task are left out if the run is of another one.
    """
    tree = plain_values(asdict(config))
    if config.task.name:
        for section, settings in BUILT_IN_TASK_SETTINGS.items():
            tree[section] = {name: value for name, value in tree[section].items() if name not in settings}
    return {name: value for name, value in tree.items() if value != {}}


def to_yaml(config: Config) -> str:
    """The tree as the YAML file that `--config` reads back."""
    return yaml.dump(as_dict(config), Dumper=ValueDumper, sort_keys=False)


def plain_values(value: Any) -> Any:
    """The same value with lists for tuples, as YAML and JSON read it back."""
    if isinstance(value, dict):
        return {key: plain_values(entry) for key, entry in value.items()}
    return [plain_values(entry) for entry in value] if isinstance(value, list | tuple) else value
