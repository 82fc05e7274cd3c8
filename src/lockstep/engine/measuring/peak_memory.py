"""The most memory that a process has used so far."""

from __future__ import annotations

import resource
import sys

import torch

from lockstep.launch.ranks.ranks import Ranks

NAMES = ("peak_host_bytes", "peak_device_bytes")


def peak_bytes(device: torch.device) -> list[float]:
    """Of the host, what the kernel counts as resident; of the device, what torch allocated (0: a CPU)."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return [host, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0]


def named_peaks(peaks: torch.Tensor) -> dict[str, int]:
    """Name and bytes, from the peaks of all ranks (ranks, 2): those of the rank with the most."""
    host, on_device = peaks.amax(dim=0).tolist()
    return dict(zip(NAMES, (int(host), int(on_device)), strict=True)) if on_device else {NAMES[0]: int(host)}


def peak_memory(ranks: Ranks) -> dict[str, int]:
    """The peaks of the rank with the most, in bytes. A collective."""
    local = torch.tensor([peak_bytes(ranks.device)], dtype=torch.float64)
    return named_peaks(ranks.gather(local))
