"""A start that this user has made is known by its signature, which takes a key of the user's own. No torch.

A folder of someone else's can hold any settings and any digests, those of public packages too, but not this.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from lockstep.config import read_file
from lockstep.runs.folder.files import SETTINGS_FILE
from lockstep.runs.history.history import read_starts

KEY_BYTES = 32


def sign(settings: str, sources: Mapping[str, str]) -> str:
    """The signature of a start; empty if this user has no place for a key.

    Args:
        settings: the text of `SETTINGS_FILE`.
        sources: the digests of the user's modules.
    """
    key = _own_key(makes_one=True)
    return _signature(key, settings.encode(), sources) if key else ""


def is_own(folder: Path) -> bool:
    """Whether this user has made the newest start in a folder, with the settings that it holds.

    Raises:
        ConfigError: what it holds cannot be read.
    """
    starts = read_starts(folder)
    signature = starts[-1].get("signature") if starts else None
    if not isinstance(signature, str) or not signature.isascii():  # compare_digest takes no other text
        return False
    key = _own_key() if signature else b""
    try:
        settings = read_file(folder / SETTINGS_FILE)
    except OSError:
        return False  # whoever reads the settings says why
    expected = _signature(key, settings, starts[-1].get("sources", {}))
    return bool(key) and hmac.compare_digest(expected, signature)


def _signature(key: bytes, settings: bytes, sources: Mapping[str, str]) -> str:
    text = json.dumps(dict(sources), sort_keys=True).encode()
    parts = [hashlib.sha256(part).digest() for part in (settings, text)]
    return hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest()


def _own_key(*, makes_one: bool = False) -> bytes:
    """The user's key, made at the first start; empty if there is none that only the user can read."""
    try:
        state = os.environ.get("XDG_STATE_HOME", "")
        is_stated = os.path.isabs(state)
        folder = (Path(state) if is_stated else Path.home() / ".local" / "state") / "lockstep"
        path = folder / "key"
        has_place = is_stated or Path.home().is_dir()  # that of a service may not be there
        if makes_one and has_place and not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch = folder / f".key.{secrets.token_hex(4)}"
            with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())  # a key that a power loss leaves empty would never be made again
            try:
                os.link(scratch, path)  # unlike a rename, leaves the key that another start has just made
            finally:
                scratch.unlink()
    except FileExistsError:
        pass
    except (OSError, RuntimeError):  # the latter: a user without a home
        return b""
    return _private_bytes(path)


def _private_bytes(path: Path) -> bytes:
    """The key in a file, if it is this user's and nobody else can read or write it; else nothing."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            is_private = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            key = file.read()
    except OSError:
        return b""
    return key if is_private and len(key) == KEY_BYTES else b""
