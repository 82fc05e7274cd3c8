"""The parts of settle.py: programs, what matters most first, with the time of each."""

from __future__ import annotations

import sys
from dataclasses import dataclass

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
SEVERAL = "tests/gpu/test_several_gpus.py"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One program and its time."""

    name: str
    words: tuple[str, ...]
    """The command, without the interpreter."""
    seconds: float
    """What it surely gets, unless the time is over. It may also use what the parts before it have left."""
    num_gpus: int = 0
    """How many GPUs it needs."""
    can_try_on_cpu: bool = False
    """Whether it can be tried without a GPU, although it needs some."""
    takes_data: bool = True
    """Whether it takes --data-root."""
    takes_quick: bool = True
    """Whether it takes --quick."""

    def command(self, data_root: str, *, is_quick: bool) -> list[str]:
        """The command line."""
        data = ["--data-root", data_root] if self.takes_data else []
        return [sys.executable, *self.words, *data, *(["--quick"] if is_quick and self.takes_quick else [])]

    def why_skipped(self, num_gpus: int) -> str:
        """What it needs that is not here; empty if it can run."""
        if num_gpus >= self.num_gpus or (num_gpus == 0 and self.can_try_on_cpu):
            return ""
        return "skipped: needs a GPU" if self.num_gpus == 1 else "skipped: needs two GPUs"


def benchmark(name: str, seconds: float, *, num_gpus: int = 0, can_try_on_cpu: bool = False) -> Part:
    """A program of scripts/bench."""
    words = (f"scripts/bench/{name}.py",)
    return Part(name=name, words=words, seconds=seconds, num_gpus=num_gpus, can_try_on_cpu=can_try_on_cpu)


def tests(name: str, *words: str, seconds: float, num_gpus: int) -> Part:
    """Tests of tests/gpu."""
    return Part(
        name=name,
        words=(*PYTEST, *words),
        seconds=seconds,
        num_gpus=num_gpus,
        takes_data=False,
        takes_quick=False,
    )


PARTS = (
    Part(name="machine", words=("scripts/gpu/machine.py",), seconds=20, takes_data=False, takes_quick=False),
    tests("tests", "tests/gpu", f"--ignore={SEVERAL}", seconds=120, num_gpus=1),
    tests("several", SEVERAL, seconds=100, num_gpus=2),
    benchmark("scaling", 80, num_gpus=2, can_try_on_cpu=True),
    benchmark("engines", 30, num_gpus=1),
    benchmark("overhead", 40),
    Part(name="best", words=("scripts/gpu/best.py",), seconds=35),
    benchmark("speedrun", 125),
    benchmark("roofline", 15),
    benchmark("any_model", 20),
    benchmark("dataloader", 30),
    benchmark("textbook", 20),
    benchmark("streaming", 10),
    benchmark("stall", 15),
    benchmark("startup", 60),
    benchmark("sharded", 60, num_gpus=2, can_try_on_cpu=True),
)
"""On one GPU they take the nine minutes that settle.py has; on several the last may find no time."""
