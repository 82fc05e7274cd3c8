"""Ranks that a command starts itself: what is refused before any of them starts."""

import pytest

from lockstep.errors import ConfigError
from lockstep.launch.local_ranks import run_local_ranks


def test_a_launcher_may_not_start_launchers(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ConfigError, match=r"--processes = 2: is for a start without a launcher, .* torchrun"):
        run_local_ranks(2, ["train"])


def test_the_first_exit_code_is_passed_on():
    assert run_local_ranks(2, ["nonsense"]) == 2


def test_a_rank_that_the_kernel_has_killed_is_named(monkeypatch, tmp_path, capfd):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_local_ranks(1, ["nonsense"]) == 137
    line = (
        "lockstep: rank 0 was killed by SIGKILL; if nobody did it, the kernel has, for memory: lower batch."
    )
    assert line in capfd.readouterr().err
