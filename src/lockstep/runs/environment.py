"""What a run's numbers depend on in addition to its config: device, threads and library versions."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import accelerate
import torch

import lockstep
from lockstep.launch.ranks import Ranks
from lockstep.runs.commits import commit_of


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
        "git": commit_of(Path(lockstep.__file__)),
    }
