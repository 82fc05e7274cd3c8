"""What a run's numbers depend on in addition to its config: device, threads and library versions."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from typing import Any

import accelerate
import torch

import lockstep
from lockstep.launch.ranks import Ranks

GIT_SECONDS = 10
"""A large checkout on a network file system may take longer; the state of git is not worth waiting for."""


def device_name(ranks: Ranks) -> str:
    """The name of a GPU as its vendor gives it; of another device its type, such as 'cpu'."""
    if ranks.device.type == "cuda":
        return torch.cuda.get_device_name(ranks.device)
    return ranks.device.type


def environment(ranks: Ranks) -> dict[str, Any]:
    """The environment as JSON values. If device, threads and versions are equal, the bits are equal."""
    return {
        "world_size": ranks.world_size,
        "num_threads": ranks.num_threads,
        "device": device_name(ranks),
        "versions": {
            "lockstep": lockstep.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        },
        "git": git_state(),
    }


@cache
def git_state() -> dict[str, Any] | None:
    """The commit of the working directory and whether its tracked files are unchanged; None outside git."""
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = result.stdout.splitlines()
    commit = next(line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    return {"commit": commit, "is_clean": all(line.startswith("#") for line in lines)}
