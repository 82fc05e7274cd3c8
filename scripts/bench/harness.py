"""What every benchmark shares: its command line, runs to measure, rounds side by side, and where results go.

A program has `measure(bench)`, which returns rows, and ends in `main(measure)`. To compare two things it takes
`side_by_side`, which alternates them, and `ratio`, which pairs the rounds:

    times = side_by_side({"a": lambda: bench.seconds(a), "b": lambda: bench.seconds(b)}, rounds=20)
    return [ratio("a / b", times["a"], times["b"], at_most=1.1)]
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import accelerate
import torch

from lockstep.assemble import build_run
from lockstep.config import BatchConfig, Config, DataConfig, RunConfig
from lockstep.data import Dataset, load_dataset
from lockstep.launch import read_launch
from lockstep.ranks import Ranks, start_ranks
from lockstep.run import Run

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
NUM_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a result."""

    what: str
    value: float | None
    """None: not measured, and `what` says why."""
    unit: str = ""
    quartiles: tuple[float, float] | None = None
    n: int = 1
    """Samples that the value is made of."""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        """The target and whether it is met; empty where there is none."""
        sign, limit = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        if limit is None:
            return ""
        if self.value is None:
            return f"{sign} {limit:g}"
        is_met = self.value <= limit if sign == "≤" else self.value >= limit
        return f"{sign} {limit:g}: {'met' if is_met else '**missed**'}"


def median_row(what: str, samples: list[float], unit: str = "", **target: float) -> Row:
    """The median of samples with their quartiles; `target` is at_most or at_least."""
    quartiles = None
    if len(samples) > 1:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        quartiles = (low, high)
    value = statistics.median(samples)
    return Row(what=what, value=value, unit=unit, quartiles=quartiles, n=len(samples), **target)


def ratio(what: str, above: list[float], below: list[float], **target: float) -> Row:
    """The median of the ratios of neighbouring rounds: what slows the machine down slows both."""
    return median_row(what, [a / b for a, b in zip(above, below, strict=True)], **target)


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


def command_seconds(command: list[str], **options: Any) -> float:
    """Seconds of a command in a process of its own, which must succeed; its output is dropped."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **options)
    return time.perf_counter() - begin


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a program measures with: one process with all cores, or the GPU."""

    is_quick: bool
    """Whether this is a trial of the program: as few rounds and steps as will do."""
    data_root: str
    ranks: Ranks
    dataset: Dataset = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", load_dataset(self.config().data, seed=0))

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
    parser.add_argument("--quick", action="store_true", help="try the program in seconds; docs/ stays as it is")
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


def publish(name: str, device_type: str, result: dict[str, Any], folder: Path) -> None:
    """Keeps a result in benchmarks.json and redraws its part of benchmarks.md.

    Raises:
        ValueError: the page has no part for it.
    """
    results_file, page_file = folder / "benchmarks.json", folder / "benchmarks.md"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    results.setdefault(name, {})[device_type] = result
    begin, end = f"<!-- {name}: made by its program -->", f"<!-- {name}: end -->"
    parts = re.split(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", page_file.read_text(), flags=re.DOTALL)
    if len(parts) != 2:
        raise ValueError(f"{page_file}: needs {begin} and {end}, once each")
    tables = [as_table(results[name][kind]) for kind in sorted(results[name])]
    if "cuda" not in results[name]:
        tables.append("On a GPU: not measured.")
    page_file.write_text("\n".join([parts[0], "\n\n".join(tables), parts[1]]))
    results_file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def as_table(result: Mapping[str, Any]) -> str:
    """A result as Markdown: what it was measured on, then a line for each row."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"`{result['command']}`, {result['device']}, {result['cores']} cores, {result['threads']} threads, "
        f"{versions}, commit {result['commit']}, {result['date']}, load at the start {result['load']}:",
        "",
        "| what | median | quartiles | n | target |",
        "|---|---|---|---|---|",
    ]
    for values in result["rows"]:
        row = Row(**values)
        value = "not measured" if row.value is None else f"{shown(row.value)} {row.unit}".rstrip()
        spread = " to ".join(shown(quartile) for quartile in row.quartiles or ())
        lines.append(f"| {row.what} | {value} | {spread} | {row.n} | {row.target} |")
    return "\n".join(lines)


def shown(value: float) -> str:
    """A number with four digits, whole from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


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
