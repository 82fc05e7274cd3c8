"""What this machine gives the process: its cores and its memory. No torch."""

from __future__ import annotations

import ctypes
import os
import sys


def num_cores() -> int:
    """Cores that this process may use."""
    return len(cores())


def cores() -> frozenset[int]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def threads_per_process(num_cores: int, num_processes: int) -> int:
    """Threads of each of several processes that share cores: an equal share, at least one.

    A process that takes every core while its neighbours do the same is over ten times slower.
    """
    return max(1, num_cores // num_processes)


def allow_connections(num_processes: int) -> None:
    """Lets this process open as many files as a launch of so many processes may need.

    Gloo connects each rank with each other one, in two groups, and the main rank hears of all. The usual
    limit of 1024 files would end a launch of 500.
    """
    import resource  # not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft + 4 * num_processes
    if soft != resource.RLIM_INFINITY:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step instead of returning it to the system.

    Returned memory comes back page by page: with large micro-batches that costs a quarter of a step on a CPU.
    See mallopt(3). Does nothing on systems without it.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # 32 MiB is the maximum: tensors up to that size come from the heap, and the heap never shrinks.
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
