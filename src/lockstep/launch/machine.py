"""What this machine gives the process: its cores and its memory. No torch."""

from __future__ import annotations

import ctypes
import os
import sys


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Has glibc keep what is freed for the next step: pages that go back to the system come back one by one.

    With large micro-batches that is a quarter of a step on a CPU. mallopt(3); nothing where there is none.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most it takes: smaller tensors come from the heap,
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # and the heap does not shrink
