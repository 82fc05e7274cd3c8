"""Shared by all benchmarks: the command line, runs to measure, and alternating rounds.

A program defines `measure(bench)`, which returns rows, and ends with `main(measure)`. To compare two things,
use `side_by_side`, which alternates them, and `ratio`, which pairs the rounds:

    blocks = {"a": partial(seconds_of, do_a, 10), "b": partial(seconds_of, do_b, 10)}  # ten calls per block
    times = side_by_side(blocks, bench.count(20))
    return [ratio("a / b", times["a"], times["b"], at_most=1.1)]
"""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import accelerate
import torch

from lockstep.config import BatchConfig, Config, DataConfig, RunConfig
from lockstep.engine import Run
from lockstep.launch import num_cores, read_launch
from lockstep.launch.process.process_state import restored_process_state
from lockstep.launch.process_group import start_ranks
from lockstep.launch.ranks.ranks import Ranks
from lockstep.trainer import build_run, find_task, make_parts
from results import Row, as_table, publish

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
LOCKSTEP = (sys.executable, "-m", "lockstep")
"""The command, which need not be installed."""
NUM_CORES = num_cores()


def side_by_side(
    blocks: Mapping[str, Callable[[], T]], rounds: int, num_warm_ups: int = 1
) -> dict[str, list[T]]:
    """Runs the blocks alternately, A B A B …; returns the results of each, without warm-up rounds."""
    results: dict[str, list[T]] = {name: [] for name in blocks}
    for index in range(-num_warm_ups, rounds):
        for name, block in blocks.items():
            result = block()
            if index >= 0:
                results[name].append(result)
    return results


def seconds_of(action: Callable[[], object], repeats: int = 1) -> float:
    """Seconds that `repeats` calls of an action take, until the device has finished."""
    wait_for_device()
    begin = time.perf_counter()
    for _ in range(repeats):
        action()
    wait_for_device()
    return time.perf_counter() - begin


def command_seconds(command: list[str]) -> float:
    """Seconds that a command takes in its own process. It must succeed; its output is dropped."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begin


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a program measures with: one process with all cores or the GPU."""

    is_quick: bool
    """Whether this only tries the program, with as few rounds and steps as possible."""
    data_root: str
    ranks: Ranks

    def count(self, usual: int) -> int:
        """Number of rounds or steps: `usual`, or 2 in a trial."""
        return 2 if self.is_quick else usual

    def config(self, *, folder: Path | str = "unused", **batch: int) -> Config:
        """The default recipe on MNIST, with the given batch sizes if any."""
        sizes = replace(BatchConfig(), **batch)
        run = RunConfig(dir=str(folder), name="run")
        return Config(precision="no", run=run, data=DataConfig(root=self.data_root), batch=sizes)

    def run(self, config: Config) -> Run:
        """A run at step 0, on this process."""
        config, task = find_task(config, None)
        return build_run(config, self.ranks, make_parts(config, task, self.ranks))

    @contextmanager
    def in_precision(self, precision: str) -> Iterator[Bench]:
        """The same for runs in another precision, which end with the block."""
        with restored_process_state():
            yield replace(self, ranks=start_ranks(read_launch(), precision))


def main(measure: Callable[[Bench], list[Row]]) -> None:
    """The command line of a program: measures, prints the table and, unless it is a trial, updates docs/."""
    program = Path(inspect.getfile(measure))
    description = inspect.getdoc(inspect.getmodule(measure))
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, prog=program.name
    )
    parser.add_argument(
        "--quick", action="store_true", help="try the program in seconds; leaves docs/ unchanged"
    )
    parser.add_argument("--data-root", default="data", help="folder with MNIST/raw (default: data)")
    arguments = parser.parse_args()
    ranks = start_ranks(read_launch(), "no")
    environment = header(ranks)
    rows = measure(Bench(is_quick=arguments.quick, data_root=arguments.data_root, ranks=ranks))
    result = {
        "command": f"python scripts/bench/{program.name}",
        **environment,
        "rows": [asdict(row) for row in rows],
    }
    print(as_table(result), flush=True)
    if not arguments.quick:
        publish(program.stem, ranks.device.type, result, ROOT / "docs")
    ranks.close()


def header(ranks: Ranks) -> dict[str, Any]:
    """What the numbers depend on: device, versions, commit and load, as JSON values."""
    is_cuda = ranks.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(ranks.device) if is_cuda else _cpu_name(),
        "cores": NUM_CORES,
        "threads": ranks.num_threads,
        "versions": {
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        },
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 2),
    }


def wait_for_device() -> None:
    """Returns once the device has finished all queued work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit that was measured, marked if the measured files differ from it; "unknown" without git."""
    if shutil.which("git") is None:
        return "unknown"

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    is_changed = git("status", "--porcelain", "--", "src", "configs", "scripts")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if is_changed else "")
