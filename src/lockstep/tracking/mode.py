"""Whether W&B is online, offline or disabled here: `tracking.mode`, the key, the server.

wandb itself says which server and key it would use. It takes a second to import, so it is asked only if it
has files to look at; without them, the environment says it all.
"""

from __future__ import annotations

import os
import ssl
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from lockstep.config import enclosing_run_folder
from lockstep.errors import require
from lockstep.tracking.time_limits import ANSWER_SECONDS

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
        mode = OLD_MODES.get(_wandbs_settings().mode, _wandbs_settings().mode)
        return "mode in wandb's settings file", mode if mode in ("offline", "disabled") else "auto"
    return "tracking.mode", "auto"


def settings_files() -> list[Path]:
    """The files in which wandb looks for settings: the user's, and those of the current folder.

    Raises:
        ConfigError: the current folder is a run folder and has such a file, which could name another server.
    """
    own = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser() / "settings"
    here = [Path.cwd() / folder / "settings" for folder in ("wandb", ".wandb")]
    for path in here:
        rule = "is in a run folder, and would tell wandb where to send your key; go to another folder"
        require(not path.exists() or enclosing_run_folder(path) is None, "settings", str(path), rule)
    return [own, *here]


def netrc_files() -> list[Path]:
    """The files in which wandb looks for a key."""
    if stated := os.environ.get("NETRC"):
        return [Path(stated).expanduser()]
    return [Path(name).expanduser() for name in ("~/.netrc", "~/_netrc")]


def ask_server() -> None:
    """Asks W&B's server for any answer; whether its certificate is good is for wandb to say.

    Raises:
        OSError: it does not answer, or answers that it is broken (a status of 500 or above).
    """
    url = server_url()
    try:
        urlopen(url, timeout=ANSWER_SECONDS).close()
    except HTTPError as error:
        if error.code >= 500:
            raise
    except URLError as error:
        # wandb may know the authority, from a bundle of certificates or a setting of its own.
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            raise
    except (HTTPException, ValueError) as error:
        raise OSError(f"{url}: {error!r}") from error


def server_url() -> str:
    """The URL of the server that wandb would use."""
    settings_files()
    return os.environ.get("WANDB_BASE_URL") or _wandbs_settings().base_url


def has_key() -> bool:
    """Whether wandb would find a key without asking the user."""
    files = settings_files()
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if not any(path.exists() for path in [*files, *netrc_files()]):
        return False
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib.wbauth import read_netrc_auth

    try:
        return bool(_wandbs_settings().api_key or read_netrc_auth(host=server_url()))
    except (AuthenticationError, ValueError):  # it is there, and wandb will say what is wrong with it
        return True


def _wandbs_settings():  # type: ignore[no-untyped-def]  # wandb's own class, which takes a second to import
    """The settings as wandb reads them from its files and the environment; starts no process."""
    from wandb.sdk import wandb_setup

    follow_environment()
    return wandb_setup.singleton().settings


def follow_environment() -> None:
    """Makes wandb read its variables again if they have changed, unless a run is open in this process.

    wandb reads them once per process, so a second run in a notebook would go to the first one's server.
    """
    import wandb
    from wandb.sdk import wandb_setup

    session = wandb_setup.singleton()
    if session.did_environment_change() and session.most_recent_active_run is None:
        wandb.teardown()
