"""What a step costs between two nodes: two network namespaces of this machine and a cable between them.

The cable is as fast as the machine, or has 1 Gbit/s (tc's token bucket). One process with one thread is on
each node. Needs root, ip and tc; elsewhere it measures nothing and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from harness import Bench, main, side_by_side
from results import Row, median_row, ratio
from team import Launch, Team

NODES = ("lockstep-bench-a", "lockstep-bench-b")
FIRST_PORT = 29511
SPEEDS = {"unlimited": "", "1 Gbit/s": "1gbit"}


def measure(bench: Bench) -> list[Row]:
    """Steps with either reduction, and agreements, over a cable of each speed."""
    tools = [shutil.which(tool) for tool in ("ip", "tc")]
    if os.geteuid() != 0 or not all(tools):
        return [Row(what="two nodes: needs root, ip and tc", value=None, n=0)]
    rows = []
    for speed, rate in SPEEDS.items():
        with nodes(rate), ExitStack() as stack:
            teams = {
                reduction: stack.enter_context(Team(bench, reduction, on_nodes(FIRST_PORT + number)))
                for number, reduction in enumerate(("exact", "fast"))
            }
            blocks = {name: partial(team.step_seconds) for name, team in teams.items()}
            blocks["agree"] = partial(teams["exact"].agreement_seconds)
            times = side_by_side(blocks, bench.count(10))
        names = {"exact": "step, exact", "fast": "step, fast", "agree": "an agreement that is waited for"}
        for name, what in names.items():
            rows.append(median_row(f"{speed}: {what}", [1e3 * each for each in times[name]], "ms"))
        rows.append(ratio(f"{speed}: exact / fast", times["exact"], times["fast"], at_most=1.1))
    return rows


@contextmanager
def nodes(rate: str) -> Iterator[None]:
    """Two nodes and a cable of a rate such as '1gbit' in each direction; empty: without a limit."""
    for node in NODES:
        run("ip", "netns", "add", node)
    try:
        peer = ["type", "veth", "peer", "name", "cable", "netns", NODES[1]]
        run("ip", "link", "add", "cable", "netns", NODES[0], *peer)
        for number, node in enumerate(NODES, 1):
            run("ip", "-n", node, "addr", "add", f"10.78.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                run("ip", "-n", node, "link", "set", device, "up")
            if rate:
                limit = ["rate", rate, "burst", "128kb", "latency", "50ms"]
                run("tc", "-n", node, "qdisc", "add", "dev", "cable", "root", "tbf", *limit)
        yield
    finally:
        for node in NODES:
            run("ip", "netns", "del", node)


def on_nodes(port: int) -> list[Launch]:
    """One process with one thread on each node."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "10.78.0.1", "MASTER_PORT": str(port)}
    return [
        (["ip", "netns", "exec", node, sys.executable], {**shared, "RANK": str(rank)})
        for rank, node in enumerate(NODES)
    ]


def run(*words: str) -> None:
    """Runs a command, which must succeed."""
    subprocess.run(words, check=True)


if __name__ == "__main__":
    main(measure)
