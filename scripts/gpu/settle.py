"""Settles what only a GPU can show, in one command: tests/gpu, then every benchmark, on the GPU that is here.

    make wheels                        # where there is a network: what a bare machine lacks, into wheels/
    pip install --no-index --no-deps wheels/*.whl        # on the machine with the GPU
    python scripts/gpu/settle.py --data-root data --output settled

It needs torch, torchvision, accelerate and no network. The parts run one after the other, each in a process
of its own, what matters most first, until the time is over. What is done so far lies in the output folder at
any moment: a log of each part, a table of all parts, and docs/benchmarks.* with the GPU's rows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
LEAST_SECONDS = 10.0
"""With less time than this left, no part begins."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One program and its time limit."""

    name: str
    words: tuple[str, ...]
    """The command, without the interpreter."""
    limit_seconds: float
    takes_data: bool = True
    """Whether it takes --data-root and --quick."""

    def command(self, data_root: str, *, is_quick: bool) -> list[str]:
        words = [sys.executable, *self.words]
        if self.takes_data:
            words += ["--data-root", data_root, *(["--quick"] if is_quick else [])]
        return words


def program(name: str, limit_seconds: float, folder: str = "bench") -> Part:
    return Part(name=name, words=(f"scripts/{folder}/{name}.py",), limit_seconds=limit_seconds)


PARTS = (
    Part(
        name="tests",
        words=("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"),
        limit_seconds=180,
        takes_data=False,
    ),
    program("engines", 90),
    program("overhead", 90),
    program("best", 60, "gpu"),
    program("speedrun", 210),
    program("roofline", 40),
    program("any_model", 60),
    program("dataloader", 90),
    program("textbook", 90),
    program("streaming", 60),
    program("startup", 90),
    program("stall", 60),
)


def main() -> None:
    """The command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--data-root", default="data", help="folder with MNIST/raw (default: data)")
    parser.add_argument("--output", default="settled", type=Path, help="folder for the results")
    parser.add_argument("--seconds", default=540.0, type=float, help="when to stop (default: 540)")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="*", default=names, choices=names, help="run only these parts")
    parser.add_argument("--quick", action="store_true", help="try the programs, on a CPU too; no rows")
    asked = parser.parse_args()
    parts = [part for part in PARTS if part.name in asked.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("settle.py: stopped"))  # ends the part that runs too
    outcomes = settle(parts, asked.data_root, asked.output.resolve(), asked.seconds, is_quick=asked.quick)
    sys.exit(any(outcome != "done" for outcome in outcomes))


def settle(parts: list[Part], data_root: str, output: Path, seconds: float, *, is_quick: bool) -> list[str]:
    """Runs the parts until the time is over; returns what became of each."""
    output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    lines, outcomes = [], []
    for part in parts:
        left = min(part.limit_seconds, end - time.monotonic())
        begin = time.monotonic()
        outcome = run(part, data_root, output, left, is_quick=is_quick) if left > LEAST_SECONDS else "no time"
        outcomes.append(outcome)
        lines.append(f"{part.name:12} {outcome:24} {time.monotonic() - begin:6.1f} s")
        print(lines[-1], flush=True)
        (output / "settled.txt").write_text("\n".join(lines) + "\n")
        for name in ("benchmarks.json", "benchmarks.md"):
            shutil.copy(DOCS / name, output / name)
    return outcomes


def run(part: Part, data_root: str, output: Path, limit_seconds: float, *, is_quick: bool) -> str:
    """Runs one part; 'done', or why it is not. Its log is in the output folder."""
    path = [ROOT / "src", ROOT / "tests" / "support", os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    environment.pop("PYTEST_ADDOPTS", None)  # may leave out the tests of this part
    with (output / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            part.command(data_root, is_quick=is_quick),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_seconds:.0f} s"
        finally:  # with the processes that it has started, which would go on using the GPU
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "done" if code == 0 else f"failed ({code}); see its log"


if __name__ == "__main__":
    main()
