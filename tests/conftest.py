"""What all tests share: CPUs, one thread a process, no W&B account, compiled files kept between processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every rank of every test would compile torch anew


@pytest.fixture(autouse=True, scope="module")
def _no_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only tests/gpu uses GPUs: the others start more processes than there are, or expect a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("gpu") is None:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes that tests start
        yield


@pytest.fixture(autouse=True)
def _no_account(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test finds the user's W&B key or a launcher's variables."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "ACCELERATE_", "SLURM_"))]:
        monkeypatch.delenv(name)
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # for this process, which may know its GPUs already
    monkeypatch.setenv("NETRC", str(tmp_path_factory.getbasetemp() / "no-netrc"))
