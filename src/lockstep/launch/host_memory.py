"""How much more memory of the host this process can take before the kernel kills it. No torch.

A container's or a SLURM job's limit is that of a control group (cgroup, versions 1 and 2). Whoever exceeds
it is killed, without an error that a program could handle.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def free_bytes(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """What is free in this machine, or in the fullest of the control groups that this process is in."""
    free = [psutil.virtual_memory().available]
    for folder, names in _memory_groups(cgroups, own_groups):
        try:
            limit, used = ((folder / name).read_text().strip() for name in names)
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue  # a root has no limit
        if limit != "max":
            # The kernel gives up copies of files before it kills.
            kinds = ("inactive_file", "active_file")
            files = sum(int(stat.get(f"total_{kind}", stat.get(kind, 0))) for kind in kinds)
            free.append(max(0, int(limit) - int(used) + files))
    return min(free)


@contextmanager
def limited_growth(num_bytes: int) -> Iterator[None]:
    """Makes an allocation fail in the block once this process has taken so much more: as `ulimit -d` does."""
    if sys.platform != "linux":  # others do not enforce the limit
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = psutil.Process().memory_info().data + num_bytes
    if before != resource.RLIM_INFINITY:
        limit = min(limit, before)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _memory_groups(cgroups: Path, own_groups: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    """(folder, names of the files with limit and use) of this process's groups and of all above them."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # In a container the path may be the host's, and only the root is there: it is the container's own.
        group = root / path.lstrip("/")
        yield from ((each, names) for each in (group, *group.parents) if each.is_relative_to(root))
