"""Users whose home folder is missing or cannot be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.launch import lend_home
from lockstep.launch.process.home import CACHES

OTHER_USER = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
SHOW = "import os; from lockstep.launch import lend_home; lend_home(); print(*map(os.environ.get, {names}))"


needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*OTHER_USER, "true"]).returncode != 0,
    reason="no user namespaces here",
)


def show(*names, **environ):
    """Variables after `lend_home` in a process of a user who is not in passwd, root of nothing."""
    words = [*OTHER_USER, sys.executable, "-c", SHOW.format(names=names)]
    environ |= {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C"}
    result = subprocess.run(words, env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_home_that_can_be_written_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in CACHES:
        monkeypatch.delenv(name, raising=False)
    lend_home()
    assert not any(name in os.environ for name in CACHES)


@needs_namespaces
def test_a_user_without_a_home_gets_a_temporary_one():
    home, cache = show("HOME", "WANDB_CACHE_DIR")
    assert home == cache
    assert "lockstep-home-" in home
    assert not Path(home).exists()  # it ends with the process


@needs_namespaces
def test_a_home_that_cannot_be_written_stays_and_caches_go_elsewhere(tmp_path):
    tmp_path.chmod(0o555)
    home, *caches, stated = show(
        "HOME", *CACHES[:2], "WANDB_DATA_DIR", HOME=str(tmp_path), WANDB_DATA_DIR="/stated"
    )
    assert home == str(tmp_path)
    assert all("lockstep-home-" in cache for cache in caches)
    assert stated == "/stated"
