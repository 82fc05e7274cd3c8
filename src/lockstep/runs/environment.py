"""What a run's numbers depend on besides its config: device, threads and libraries."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from typing import Any

import accelerate
import torch

from lockstep.launch.ranks import Ranks

GIT_SECONDS = 10  # a large checkout on a network file system may take longer; it is not worth waiting for


def device_name(ranks: Ranks) -> str:
    """The device as its maker names it."""
    if ranks.device.type == "cuda":
        return torch.cuda.get_device_name(ranks.device)
    return ranks.device.type


def environment(ranks: Ranks) -> dict[str, Any]:
    """As JSON values. Equal bits are promised where device, threads and versions are equal."""
    return {
        "world_size": ranks.world_size,
        "num_threads": ranks.num_threads,
        "device": device_name(ranks),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        },
        "git": git_state(),
    }


@cache
def git_state() -> dict[str, Any] | None:
    """The working directory's commit, and whether it has no changes to tracked files; None outside of git."""
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = result.stdout.splitlines()
    commit = next(line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    return {"commit": commit, "is_clean": all(line.startswith("#") for line in lines)}
