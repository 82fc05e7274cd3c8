"""The server and the key that W&B would use here, without asking the user.

wandb itself says which. It takes a second to import, so it is asked only if it has files to look at; without
them, the environment says it all.
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
    return os.environ.get("WANDB_BASE_URL") or wandbs_settings().base_url


def has_key() -> bool:
    """Whether wandb would find a key without asking the user."""
    files = settings_files()
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if not any(path.exists() for path in [*files, *netrc_files()]):
        return False
    without_telemetry()
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib.wbauth import read_netrc_auth

    try:
        return bool(wandbs_settings().api_key or read_netrc_auth(host=server_url()))
    except (AuthenticationError, ValueError):  # it is there, and wandb will say what is wrong with it
        return True


def wandbs_settings():  # type: ignore[no-untyped-def]  # wandb's own class, which takes a second to import
    """The settings as wandb reads them from its files and the environment; starts no process."""
    without_telemetry()
    from wandb.sdk import wandb_setup

    follow_environment()
    return wandb_setup.singleton().settings


def without_telemetry() -> None:
    """Turns off wandb's reports of its own errors, unless the user says otherwise; before wandb's import.

    At exit they would wait 10 s for a slow server, of the 30 s that a scheduler grants.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def follow_environment() -> None:
    """Makes wandb read its variables again if they have changed, unless a run is open in this process.

    wandb reads them once per process, so a second run in a notebook would go to the first one's server.
    """
    import wandb
    from wandb.sdk import wandb_setup

    session = wandb_setup.singleton()
    if session.did_environment_change() and session.most_recent_active_run is None:
        wandb.teardown()
