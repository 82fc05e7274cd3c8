"""Two network namespaces and a cable between them: nodes that are really apart."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest

from lockstep.launch import accelerate_options
from processes import BIN, QUICK, ROOT, SCRIPT, free_port, lockstep, read_run

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


@contextlib.contextmanager
def started(*commands):
    """A command on each node; whatever happens, all processes that it starts end."""
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", node, *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for node, command in zip(NODES, commands, strict=True)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.slow
def test_a_cut_cable_ends_both_nodes_and_the_run_goes_on_when_it_is_back(nodes, tmp_path):
    """No variable names an interface, and both nodes' own name leads to the loopback, as on every Debian.

    First under torchrun, then as the SLURM script does, under accelerate launch.
    """
    flags = [*QUICK, "--train.epochs", "20", "--train.checkpoint-every", "1", "--train.log-every", "20"]
    flags += ["--run.dir", str(tmp_path), "--run.timeout-seconds", "4"]
    address, port = "10.77.0.1", free_port()
    meeting = [f"--master_addr={address}", f"--master_port={port}"]
    torchrun = [str(BIN / "torchrun"), "--nnodes=2", "--nproc_per_node=1", *meeting]
    accelerate = [str(BIN / "accelerate"), "launch", *accelerate_options(2, 1, address, port + 1)]
    program = [SCRIPT, *flags, "--run.name", "apart"]
    with started(*([*torchrun, f"--node_rank={node}", *program] for node in range(2))) as processes:
        ends = time.monotonic() + 100
        while not list(tmp_path.glob("apart/checkpoints/step-*2")) and time.monotonic() < ends:
            time.sleep(0.05)
        ip("-n", nodes[0], "link", "set", "cable", "down")
        for rank, process in enumerate(processes):
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1, errors
            assert f"lockstep: rank {rank} stopped: rank {1 - rank} on " in errors
            assert "has given no sign of life for 4 s (run.timeout_seconds)" in errors
    ip("-n", nodes[0], "link", "set", "cable", "up")
    with started(*([*accelerate, "--machine_rank", str(node), *program] for node in range(2))) as processes:
        for process in processes:
            output, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors + output
    alone = lockstep("train", *flags, "--run.name", "alone")
    assert alone.returncode == 0, alone.stderr
    run = read_run(tmp_path / "apart")
    assert run["weights_sha256"] == read_run(tmp_path / "alone")["weights_sha256"]
    assert run["steps"] == 60
    assert len((tmp_path / "apart" / "starts.jsonl").read_text().splitlines()) == 2
