"""Settings of all tests: CPU only, one thread per process, no W&B account, cached bytecode."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)  # a failure comes with a change
settings.load_profile("repeatable")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every rank of every test recompiles torch


@pytest.fixture(autouse=True, scope="module")
def _no_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only tests/gpu uses GPUs: other tests start more processes than there are GPUs, or expect a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("gpu") is None:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes that tests start
        yield


@pytest.fixture(autouse=True, scope="module")
def _own_accelerator() -> Iterator[None]:
    """Accelerate keeps the precision of the first Accelerator of a process for all others."""
    yield
    if "accelerate.state" in sys.modules:
        from lockstep.launch.process.process_state import SHARED_STATES

        for state in SHARED_STATES:
            state._shared_state = {}  # another dict: what still holds the old one keeps it


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the key by which a user's own runs are known out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _no_account(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Hides the W&B key and a launcher's variables from the tests, and ends what they have of wandb.

    Undoes what a test sets, too. Some packages set variables when they are imported, such as cv2 its
    LD_LIBRARY_PATH, and every process of every later test would then be a new interpreter: see forked.py.
    """
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "ACCELERATE_", "SLURM_"))]:
        monkeypatch.delenv(name)
    if request.node.get_closest_marker("gpu") is None:
        # For this process, which may already have found its GPUs.
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("NETRC", str(tmp_path_factory.getbasetemp() / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / "no-wandb"))
    yield
    if teardown := getattr(sys.modules.get("wandb"), "teardown", None):
        # It keeps the first settings it read, and names its service process to all later processes.
        teardown()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for no disk: for tests of one that does not come back."""
    monkeypatch.setattr("lockstep.config.file_retries.PAUSES_SECONDS", (0.0, 0.0))
