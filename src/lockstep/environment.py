"""What a run's numbers depend on besides its config: device, threads and libraries."""

from __future__ import annotations

import platform
from typing import Any

import accelerate
import torch

from lockstep.ranks import Ranks


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
    }
