"""Two network namespaces and a cable between them: nodes that are really apart."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from processes import QUICK, ROOT, SCRIPT, free_port

NODES = ("lockstep-a", "lockstep-b")


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def nodes():
    if os.geteuid() != 0 or shutil.which("ip") is None or ip("netns", "add", NODES[0]).returncode != 0:
        pytest.skip("needs root and network namespaces")
    ip("netns", "add", NODES[1])
    ip("link", "add", "cable", "netns", NODES[0], "type", "veth", "peer", "name", "cable", "netns", NODES[1])
    for number, node in enumerate(NODES, 1):
        ip("-n", node, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
        for device in ("lo", "cable"):
            ip("-n", node, "link", "set", device, "up")
    yield NODES
    for node in NODES:
        ip("netns", "del", node)


@pytest.mark.slow
def test_two_nodes_meet_and_a_cut_cable_ends_both(nodes, tmp_path):
    """No variable names an interface, and both nodes' own name leads to the loopback, as on every Debian."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": str(free_port())}
    flags = ["--run.dir", str(tmp_path), "--run.name", "apart", "--run.timeout-seconds", "4"]
    quick = [word for word in QUICK if word not in ("--train.epochs", "2")]
    flags += ["--train.checkpoint-every", "1", "--train.epochs", "100000"]
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", node, sys.executable, SCRIPT, *quick, *flags],
            env={**os.environ, **shared, "RANK": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, node in enumerate(nodes)
    ]
    try:
        ends = time.monotonic() + 100
        while not list(tmp_path.glob("apart/checkpoints/step-*2")) and time.monotonic() < ends:
            time.sleep(0.1)
        ip("-n", nodes[0], "link", "set", "cable", "down")
        for rank, process in enumerate(started):
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1, errors
            words = f"lockstep: rank {rank} stopped: rank {1 - rank} on "
            assert words in errors
            assert "has given no sign of life for 4 s (run.timeout_seconds)" in errors
    finally:
        for process in started:
            process.kill()
            process.communicate()
