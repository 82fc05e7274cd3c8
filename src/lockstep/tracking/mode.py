"""Whether W&B is online, offline or disabled here: `tracking.mode`, the key, the server. Imports no wandb."""

from __future__ import annotations

import netrc
import os
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

from lockstep.errors import require
from lockstep.tracking.time_limits import ANSWER_SECONDS

MODES = ("online", "offline", "disabled")


def wandb_mode(wanted: str) -> str:
    """What `tracking.mode` means on this machine: online, offline or disabled.

    Raises:
        ConfigError: WANDB_MODE is not one of MODES, or online was asked for and there is no key.
    """
    name = "tracking.mode"
    # W&B's own switch wins over the default, so that `WANDB_MODE=disabled` works as users know it.
    if wanted == "auto" and (stated := os.environ.get("WANDB_MODE")):
        name, wanted = "WANDB_MODE", stated
        require(wanted in MODES, name, wanted, f"must be {', '.join(MODES)}, or not set")
    if wanted == "auto":
        return "online" if has_key() else "offline"
    rule = "no W&B key was found; set WANDB_API_KEY, or use offline"
    require(wanted != "online" or has_key(), name, wanted, rule)
    return wanted


def ask_server() -> None:
    """Asks W&B's server for any answer.

    Raises:
        OSError: it does not answer, or answers that it is broken (a status of 500 or above).
    """
    try:
        urlopen(server_url(), timeout=ANSWER_SECONDS).close()
    except HTTPError as error:
        if error.code >= 500:
            raise
    except (HTTPException, ValueError) as error:
        raise OSError(f"{server_url()}: {error!r}") from error


def server_url() -> str:
    """The URL of the server: W&B's own, or the user's."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def has_key() -> bool:
    """Whether wandb would find a key without asking the user: in the environment or the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(server_url()).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
