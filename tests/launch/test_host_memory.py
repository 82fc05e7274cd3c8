"""The limit of a control group, as files tell it, and the limit that stands for it."""

import mmap
import sys

import psutil
import pytest

from lockstep.launch.host_memory import free_bytes, limited_growth

SLURM = "slurm/uid_1000/job_7"


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


@pytest.fixture
def groups(tmp_path):
    return tmp_path / "cgroup", tmp_path / "own"


def test_version_2_counts_the_group_and_those_above_it(groups):
    root, own = groups
    own.write_text(f"0::/{SLURM}/step_0\n")
    stat = "anon 900000\nactive_file 20000\ninactive_file 30000"
    write(root / SLURM / "step_0", max="max", current=900_000, stat=stat)
    write(root / SLURM, max=1_000_000, current=950_000, stat=stat)
    assert free_bytes(*groups) == 100_000


def test_version_1_counts_the_group_and_those_above_it(groups):
    root, own = groups
    own.write_text(f"9:cpuset:/{SLURM}\n4:memory:/{SLURM}/step_0\n0::/\n")
    stat = "inactive_file 1\ntotal_inactive_file 30000\ntotal_active_file 0"
    write(root / "memory" / SLURM, limit_in_bytes=1_000_000, usage_in_bytes=700_000, stat=stat)
    step = root / "memory" / SLURM / "step_0"
    write(step, limit_in_bytes=2**63 - 4096, usage_in_bytes=700_000, stat=stat)
    assert free_bytes(*groups) == 330_000


def test_a_container_sees_its_own_group_as_the_root(groups):
    root, own = groups
    own.write_text("0::/../../docker/abc\n")
    write(root, max=5_000, current=9_000, stat="anon 9000")
    assert free_bytes(*groups) == 0


def test_without_groups_it_is_the_machines(groups):
    assert 0 < free_bytes(*groups) <= psutil.virtual_memory().total


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_an_allocation_beyond_the_limit_fails_and_one_after_it_does_not():
    def allocate():
        """Not by malloc, which may still have what an earlier test has freed."""
        mmap.mmap(-1, 2**29, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()

    with limited_growth(2**28), pytest.raises(OSError, match="Cannot allocate memory"):
        allocate()
    allocate()
