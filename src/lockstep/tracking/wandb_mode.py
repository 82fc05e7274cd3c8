"""Whether W&B is online, offline or disabled here: `tracking.mode`, wandb's own switches, and the key."""

from __future__ import annotations

import os

from lockstep.errors import require
from lockstep.tracking.wandb_login import has_key, settings_files, wandbs_settings

MODES = ("online", "offline", "disabled")
OLD_MODES = {"run": "online", "dryrun": "offline"}
"""Older names in WANDB_MODE, which wandb understands too → ours."""
YES = ("1", "true", "yes", "on")


def wandb_mode(wanted: str) -> str:
    """What `tracking.mode` means on this machine: online, offline or disabled.

    W&B's own switches win over the default, so that `WANDB_MODE=disabled`, `WANDB_DISABLED=true` and `wandb
    offline` work as users know them.

    Raises:
        ConfigError: WANDB_MODE is not one of MODES, or online was asked for and there is no key.
    """
    name = "tracking.mode"
    if wanted == "auto":
        name, wanted = _users_switch()
    if wanted == "auto":
        return "online" if has_key() else "offline"
    rule = "no W&B key was found; set WANDB_API_KEY, or use offline"
    require(wanted != "online" or has_key(), name, wanted, rule)
    return wanted


def _users_switch() -> tuple[str, str]:
    """(the name of the switch, the mode that it asks for); 'auto' without one."""
    if os.environ.get("WANDB_DISABLED", "").lower() in YES:
        return "WANDB_DISABLED", "disabled"
    if stated := os.environ.get("WANDB_MODE"):
        mode = OLD_MODES.get(stated, stated)
        require(mode in MODES, "WANDB_MODE", stated, f"must be {', '.join(MODES)}, or not set")
        return "WANDB_MODE", mode
    if any(path.exists() for path in settings_files()):
        mode = OLD_MODES.get(wandbs_settings().mode, wandbs_settings().mode)
        return "mode in wandb's settings file", mode if mode in ("offline", "disabled") else "auto"
    return "tracking.mode", "auto"
