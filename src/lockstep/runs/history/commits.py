"""The commit that a source file is from, read without running what its repository configures. No torch."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

GIT_SECONDS = 10
"""A large checkout on a network file system may take longer; the commit is not worth waiting for."""


@cache
def commit_of(file: Path) -> dict[str, Any] | None:
    """The newest commit of a file's repository, and whether the file is as in it; None if it is in none.

    `git status` would run the programs that the repository names as core.fsmonitor and as filters, and the
    repository may be someone else's. `git rev-parse` only looks up names.
    """
    command = ["git", "rev-parse", "HEAD", f"HEAD:./{file.name}"]
    # Of a partial clone, git would fetch what is missing, with the programs that the clone names.
    no_fetch = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}
    try:
        content = file.read_bytes()
        result = subprocess.run(
            command,
            cwd=file.parent,
            env={**os.environ, **no_fetch},
            check=True,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    commit, blob = result.stdout.split()
    new_hash = hashlib.sha1 if len(blob) == 40 else hashlib.sha256  # git's two kinds of repository
    is_clean = new_hash(b"blob %d\0" % len(content) + content).hexdigest() == blob
    return {"commit": commit, "is_clean": is_clean}
