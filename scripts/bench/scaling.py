"""How time per step changes with the number of processes, the reduction, the window and the world size.

The processes of one kind are started once, under torchrun, and time blocks of steps when they are told to;
while one kind works the others wait. The cost of planning is measured without processes: a plan is a pure
function of the world size.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from torch.cuda import device_count

from harness import NUM_CORES, Bench, main, seconds_of, side_by_side
from lockstep.config import BatchConfig
from lockstep.plan import Plan
from results import Row, median_row, ratio

WORKER = Path(__file__).with_name("scaling_worker.py")
START_SECONDS = 120
GLOBAL_SIZES = (32, 64, 128, 256, 512, 1024)
WORLD_SIZES = (1, 8, 64, 512, 4096)
MICRO_SIZE = 32


class Team:
    """Processes that train the default recipe and share the cores; a context that ends them."""

    def __init__(self, bench: Bench, num_processes: int, reduction: str) -> None:
        self._repeats = bench.count(10)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
            command = [sys.executable, "-m", *launcher, str(WORKER), port, bench.data_root, reduction]
            threads = str(max(1, NUM_CORES // num_processes))
            self._process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": threads})
            server.settimeout(START_SECONDS)
            self._connection = server.accept()[0]
        self._lines = self._connection.makefile("rw")

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._connection.close()  # ends the processes
        self._process.wait()

    def step_seconds(self, global_size: int = 256) -> float:
        """Seconds of a step, the mean over a block."""
        self._lines.write(json.dumps([global_size, self._repeats]) + "\n")
        self._lines.flush()
        return float(self._lines.readline()) / self._repeats


def measure(bench: Bench) -> list[Row]:
    """Each of the four questions in turn."""
    is_cuda = bench.ranks.device.type == "cuda"
    # A power of two, as the recipe's eight micro-batches must divide.
    num_processes = min(8, 1 << ((device_count() if is_cuda else NUM_CORES).bit_length() - 1))
    with ExitStack() as teams:
        one = teams.enter_context(Team(bench, 1, "exact"))
        rows = window_rows(bench, one)
        if num_processes > 1:
            exact = teams.enter_context(Team(bench, num_processes, "exact"))
            fast = teams.enter_context(Team(bench, num_processes, "fast"))
            rows = process_rows(bench, one, exact, fast, num_processes) + rows
        else:
            rows.insert(0, Row(what="several processes: there is one device only", value=None, n=0))
    return rows + planning_rows(bench)


def process_rows(bench: Bench, one: Team, exact: Team, fast: Team, num_processes: int) -> list[Row]:
    """One process with all cores, and several that share them with either reduction."""
    teams = {"one": one, "exact": exact, "fast": fast}
    times = side_by_side({name: team.step_seconds for name, team in teams.items()}, bench.count(20))
    return [
        ratio(f"rate of {num_processes} processes / rate of 1", times["one"], times["exact"], at_least=0.95),
        ratio(f"step, {num_processes} processes: exact / fast", times["exact"], times["fast"], at_most=1.1),
        *(median_row(f"step, {name}", [1e3 * seconds for seconds in times[name]], "ms") for name in times),
    ]


def window_rows(bench: Bench, one: Team) -> list[Row]:
    """A step with longer and longer windows of equal micro-batches, in one process."""
    times = side_by_side(
        {str(size): partial(one.step_seconds, size) for size in GLOBAL_SIZES}, bench.count(10)
    )
    rows = []
    for size in GLOBAL_SIZES:
        per_sample = [1e6 * seconds / size for seconds in times[str(size)]]
        rows.append(
            median_row(f"a sample's time, window {size // MICRO_SIZE} x {MICRO_SIZE}", per_sample, "µs")
        )
    return rows


def planning_rows(bench: Bench) -> list[Row]:
    """What a rank spends on its sample ids, over an epoch of 60 000 samples in steps of 4096."""

    def plan_epoch(plan: Plan) -> None:
        ids = plan.epoch_ids(0)[:, plan.slots_of(plan.world_size - 1)]
        for step in range(len(ids)):
            plan.epoch_and_offset(step)
            plan.samples_in_step(step)

    batch = BatchConfig(global_size=max(WORLD_SIZES), micro_size=1)
    plans = {
        size: Plan(seed=0, num_samples=60_000, batch=batch, world_size=size, exact=True)
        for size in WORLD_SIZES
    }
    blocks = {str(size): partial(seconds_of, partial(plan_epoch, plans[size])) for size in WORLD_SIZES}
    times = side_by_side(blocks, bench.count(20))
    return [
        median_row(
            f"planning a step, rank of {size}",
            [1e3 * seconds / plans[size].steps_per_epoch for seconds in times[str(size)]],
            "ms",
        )
        for size in WORLD_SIZES
    ]


if __name__ == "__main__":
    main(measure)
