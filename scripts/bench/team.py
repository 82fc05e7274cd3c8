"""A team of processes that train side by side and time blocks of steps on request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import NUM_CORES, Bench

WORKER = str(Path(__file__).with_name("team_worker.py"))
START_SECONDS = 120

Launch = tuple[Sequence[str], Mapping[str, str]]
"""The words before the worker's own, and environment variables, of a process or of its launcher."""


class Team:
    """Processes that train the default recipe; leaving the context ends them."""

    def __init__(self, bench: Bench, reduction: str, launches: Sequence[Launch]) -> None:
        self._repeats = bench.count(10)
        with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            path = f"{folder}/socket"  # a file, which processes in another network namespace find, too
            server.bind(path)
            server.listen()
            self._processes = [
                subprocess.Popen(
                    [*words, WORKER, path, bench.data_root, reduction], env={**os.environ, **variables}
                )
                for words, variables in launches
            ]
            self._connection = self._accepted(server)
        self._lines = self._connection.makefile("rw")

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._connection.close()  # ends the processes
        for process in self._processes:
            process.wait()

    def _accepted(self, server: socket.socket) -> socket.socket:
        """The connection of the main rank.

        Raises:
            SystemExit: a process ended, or none connected in time; the others are told to end.
        """
        end = time.monotonic() + START_SECONDS
        server.settimeout(1)
        while time.monotonic() < end and all(process.poll() is None for process in self._processes):
            with suppress(TimeoutError):
                return server.accept()[0]
        for process in self._processes:
            process.terminate()
        raise SystemExit("a team of processes did not start; what it printed is above")

    def step_seconds(self, global_size: int = 256) -> float:
        """Mean seconds per step over one block."""
        return self._seconds("step", self._repeats, global_size)

    def agreement_seconds(self) -> float:
        """Mean seconds until the ranks agree on a flag, over one block."""
        return self._seconds("agreement", 10 * self._repeats)

    def exchange_seconds(self) -> float:
        """Mean seconds of the sum of the ranks' gradients alone, over one block."""
        return self._seconds("exchange", self._repeats)

    def _seconds(self, what: str, repeats: int, global_size: int = 256) -> float:
        self._lines.write(json.dumps([what, repeats, global_size]) + "\n")
        self._lines.flush()
        return float(self._lines.readline()) / repeats


def under_torchrun(num_processes: int) -> list[Launch]:
    """Processes of this machine that share its cores."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
    return [([sys.executable, *words], {"OMP_NUM_THREADS": str(max(1, NUM_CORES // num_processes))})]
