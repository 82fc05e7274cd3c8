"""One cluster for all tests of this folder; where it cannot run, they skip with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import train_quick
from slurm_cluster import Cluster, missing_programs, running_cluster
from slurm_jobs import LONG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = missing_programs()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.slurm)
            if missing:
                reason = f"no {', '.join(missing)}: as root, apt-get install slurm-wlm munge"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def _session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(_session_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with both nodes idle; a test that leaves a process of its jobs behind fails."""
    idle = {"node1": "idle", "node2": "idle"}
    yield _session_cluster
    # Not jobs that are COMPLETING: SLURM is still cleaning up after them.
    left = _session_cluster.run("squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%i")
    _session_cluster.run("scancel", "--user=root", check=False)
    _session_cluster.wait(lambda: _session_cluster.node_states() == idle, 60, "two idle nodes")
    _session_cluster.wait(lambda: not _session_cluster.processes(), 20, "end of every process of the jobs")
    assert not left, f"jobs {left} were left in the queue"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The summary of the long run, trained by one process that nothing disturbs."""
    return train_quick(tmp_path_factory.mktemp("undisturbed"), "run", 1, *LONG)
