"""What all tests share: one thread a process, no W&B account, compiled files kept between processes."""

from __future__ import annotations

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every rank of every test would compile torch anew


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds the user's W&B key or a launcher's variables."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "ACCELERATE_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.getbasetemp() / "no-netrc"))
