"""The config tree as plain data: its leaves by dotted name, nested dicts, and YAML text."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import Any

import yaml

from lockstep.config.settings import Config


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


def as_dict(config: Config) -> dict[str, Any]:
    """The tree as nested dicts of plain values, as it is written to YAML and sent to W&B."""
    return plain_values(asdict(config))


def to_yaml(config: Config) -> str:
    """The tree as the YAML file that `--config` reads back."""
    return yaml.safe_dump(as_dict(config), sort_keys=False)


def plain_values(value: Any) -> Any:
    """A value with its tuples as lists, as YAML and JSON have them."""
    if isinstance(value, dict):
        return {key: plain_values(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
