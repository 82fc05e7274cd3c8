"""Where `accelerate launch` has a value from that no command line states: default_config.yaml. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def as_in_default_config(name: str, value: object, environ: Mapping[str, str] = os.environ) -> str:
    """' (as in FILE)' if accelerate's default configuration states this value, else nothing.

    What a process was launched with does not say whether it came from there, and whoever wrote that file,
    once, with `accelerate config`, may not think of it.

    Args:
        name: num_processes, mixed_precision or dynamo_backend.
        value: what the process was launched with.
        environ: the environment variables.
    """
    if "ACCELERATE_MIXED_PRECISION" not in environ:  # started by another launcher
        return ""
    file = default_config_file(environ)
    stated = read_settings(file)
    stated |= stated.get("dynamo_config") or {}
    return f" (as in {file})" if str(stated.get(name)).lower() == str(value).lower() else ""


def default_config_file(environ: Mapping[str, str]) -> Path:
    """Where accelerate keeps it; its own module for this would import torch."""
    cache = environ.get("XDG_CACHE_HOME", "~/.cache")
    home = environ.get("HF_HOME", os.path.join(cache, "huggingface"))
    return Path(os.path.expanduser(home)) / "accelerate" / "default_config.yaml"


def read_settings(file: Path) -> dict[str, Any]:
    """The names and values in the file; none if it is missing or is not YAML."""
    try:
        settings = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return settings if isinstance(settings, dict) else {}
