"""What every benchmark shares: its command line, runs to measure, and rounds side by side.

A program has `measure(bench)`, which returns rows, and ends in `main(measure)`. To compare two things it uses
`side_by_side`, which alternates them, and `ratio`, which pairs the rounds:

    blocks = {"a": partial(seconds_of, do_a, 10), "b": partial(seconds_of, do_b, 10)}  # ten calls a block
    times = side_by_side(blocks, bench.count(20))
    return [ratio("a / b", times["a"], times["b"], at_most=1.1)]
"""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import accelerate
import torch

from lockstep.config import BatchConfig, Config, DataConfig, RunConfig
from lockstep.data import Dataset, load_dataset
from lockstep.engine import Run
from lockstep.launch import num_cores, read_launch
from lockstep.launch.process_group import start_ranks
from lockstep.launch.ranks import Ranks
from lockstep.trainer import build_run
from results import Row, as_table, publish

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
NUM_CORES = num_cores()


def side_by_side(
    blocks: Mapping[str, Callable[[], T]], rounds: int, num_warm_ups: int = 1
) -> dict[str, list[T]]:
    """What each block returns in each round, A B A B …, the rounds that warm up left out."""
    results: dict[str, list[T]] = {name: [] for name in blocks}
    for place in range(-num_warm_ups, rounds):
        for name, block in blocks.items():
            result = block()
            if place >= 0:
                results[name].append(result)
    return results


def seconds_of(action: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of an action done so many times, until the device is through with it."""
    wait_for_device()
    begin = time.perf_counter()
    for _ in range(repeats):
        action()
    wait_for_device()
    return time.perf_counter() - begin


def command_seconds(command: list[str]) -> float:
    """Seconds of a command in a process of its own, which must succeed; its output is dropped."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begin


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a program measures with: one process with all cores, or the GPU."""

    is_quick: bool
    """Whether this is a trial of the program: as few rounds and steps as will do."""
    data_root: str
    ranks: Ranks

    @cached_property
    def dataset(self) -> Dataset:
        """MNIST, fetched if it is not there."""
        return load_dataset(self.config().data, seed=0)

    def count(self, usual: int) -> int:
        """Rounds or steps to take."""
        return 2 if self.is_quick else usual

    def config(self, *, folder: Path | str = "unused", **batch: int) -> Config:
        """The default recipe on MNIST, with other batch sizes where some are given."""
        sizes = replace(BatchConfig(), **batch)
        place = RunConfig(dir=str(folder), name="run")
        return Config(precision="no", run=place, data=DataConfig(root=self.data_root), batch=sizes)

    def run(self, config: Config) -> Run:
        """A run at step 0, on this process."""
        return build_run(config, self.ranks, self.dataset)


def main(measure: Callable[[Bench], list[Row]]) -> None:
    """The command line of a program: measures, prints, and unless it is a trial writes into docs/."""
    program = Path(inspect.getfile(measure))
    about = inspect.getdoc(inspect.getmodule(measure))
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, prog=program.name
    )
    parser.add_argument(
        "--quick", action="store_true", help="try the program in seconds; docs/ stays as it is"
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
    """What the numbers depend on, as JSON values."""
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
    """Returns when all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit that was measured, with a mark where what is measured differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    is_changed = git("status", "--porcelain", "--", "src", "configs", "scripts")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if is_changed else "")
