"""Settles what only a GPU can show, in one command: tests/gpu, then benchmarks, on the GPUs that are here.

    make wheels              # where there is a network: what a bare machine lacks, into wheels/
    python scripts/gpu/settle.py --data-root data --output settled       # on the machine with the GPU

It needs torch, torchvision, accelerate and no network; the rest comes from wheels/, unpacked into a temporary
folder. The parts run one after the other, each in a process of its own, what matters most first, until the
time is over. The output folder holds at any moment what is done so far: a log of each part, settled.txt, the
table of all parts, and docs/benchmarks.* with the GPU's rows, which the programs have put into docs/ too.
After a run that was cut off, --only NAME… goes on with the parts that its table lacks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from parts import PARTS, Part
from preparation import ROOT, check_python, checked_data_root, count_gpus, environment, stop

LEAST_SECONDS = 3.0
"""With less time than this left, no part begins."""
GRACE_SECONDS = 5.0
"""For a part that is told to stop, before it is killed."""
SECONDS, QUICK_SECONDS = 540.0, 1800.0
DONE, NO_TIME = "done", "no time"


def main() -> None:
    """The command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--data-root", default="data", help="folder with MNIST/raw (default: data)")
    parser.add_argument("--output", default="settled", type=Path, help="folder for the results")
    default = f"default: {SECONDS:.0f}; with --quick {QUICK_SECONDS:.0f}, as a CPU may be slow"
    parser.add_argument("--seconds", type=float, help=f"when to stop ({default})")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="run only these parts")
    parser.add_argument("--quick", action="store_true", help="try the programs, on a CPU too; no rows")
    asked = parser.parse_args()
    check_python()
    begin = time.monotonic()
    parts = [part for part in PARTS if part.name in asked.only]
    seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    for each in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C, they end the part that runs, too
        if signal.getsignal(each) != signal.SIG_IGN:  # under nohup
            signal.signal(each, signal.default_int_handler)
    with TemporaryDirectory(prefix="settle-", ignore_cleanup_errors=True) as folder:
        data_root = checked_data_root(asked.data_root) if any(part.takes_data for part in parts) else ""
        variables = environment(Path(folder))
        num_gpus = count_gpus()
        if num_gpus == 0 and not asked.quick:
            stop("no CUDA device here; --quick tries the programs on a CPU, and make bench measures one")
        device = f"{num_gpus} GPU{'s' * (num_gpus > 1)}" if num_gpus else "the CPU"
        print(f"{len(parts)} part{'s' * (len(parts) > 1)} on {device}, at most {seconds:.0f} s", flush=True)
        if (enough := sum(part.seconds for part in parts if not part.why_skipped(num_gpus))) > seconds:
            print(f"the last parts may find no time; --seconds {enough:.0f} is enough for all", flush=True)
        settling = Settling(data_root, asked.output.resolve(), variables, num_gpus, asked.quick)
        sys.exit(settling.settle(parts, seconds - (time.monotonic() - begin)))


@dataclass(frozen=True)
class Settling:
    """One run of this script."""

    data_root: str
    output: Path
    variables: Mapping[str, str]
    """The environment of each part."""
    num_gpus: int
    is_quick: bool

    def settle(self, parts: Sequence[Part], seconds: float) -> int:
        """Runs the parts until the time is over; returns the exit code: 0 if all are done or skipped."""
        self.output.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        runnable = [part for part in parts if not part.why_skipped(self.num_gpus)]
        per_share = max(1.0, seconds / max(1.0, sum(part.seconds for part in runnable)))
        outcomes, end = [], begin
        for part in parts:
            if part in runnable:
                end = min(end + part.seconds * per_share, begin + seconds)
            print(f"{part.name:12} ", end="", flush=True)
            started = time.monotonic()
            try:
                outcome = self.outcome(part, end - started - GRACE_SECONDS)
            except KeyboardInterrupt:
                self.record(part, "interrupted", time.monotonic() - started)
                print(f"interrupted; what is done is in {self.output}")
                return 130
            outcomes.append(outcome)
            self.record(part, outcome, time.monotonic() - started)
        num_done, num_skipped = outcomes.count(DONE), sum(each.startswith("skipped") for each in outcomes)
        num_failed = len(outcomes) - num_done - num_skipped
        counts = f"{num_done} done, {num_skipped} skipped, {num_failed} failed or without time"
        print(f"{counts}, {time.monotonic() - begin:.0f} s; table and logs are in {self.output}")
        return int(num_failed > 0)

    def outcome(self, part: Part, seconds: float) -> str:
        """Runs a part unless it lacks something; what became of it."""
        if why := part.why_skipped(self.num_gpus):
            return why
        return self.run(part, seconds) if seconds > LEAST_SECONDS else NO_TIME

    def run(self, part: Part, seconds: float) -> str:
        """Runs a part, with its log in the output folder; what became of it."""
        path = self.output / f"{part.name}.log"
        with path.open("w") as log:
            process = subprocess.Popen(
                part.command(self.data_root, is_quick=self.is_quick),
                cwd=ROOT,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                return f"stopped after {seconds:.0f} s"
            finally:
                end_with_all_it_started(process)
        if code == 0:
            return DONE
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return f"failed ({code}): {lines[-1].strip()[:90] if lines else 'its log is empty'}"

    def record(self, part: Part, outcome: str, seconds: float) -> None:
        """Puts the outcome into the table, copies the rows so far, and prints it."""
        table = self.output / "settled.txt"
        lines = {line.split()[0]: line for line in table.read_text().splitlines()} if table.exists() else {}
        lines[part.name] = f"{part.name:12} {seconds:6.1f} s  {outcome}"
        known = [lines[each.name] for each in PARTS if each.name in lines]
        table.write_text("\n".join(known) + "\n")
        if not self.is_quick:
            for name in ("benchmarks.json", "benchmarks.md"):
                shutil.copy(ROOT / "docs" / name, self.output / name)
        print(f"{seconds:6.1f} s  {outcome}", flush=True)  # last: its terminal may be gone


def end_with_all_it_started(process: subprocess.Popen[bytes]) -> None:
    """Ends a part with its processes, also those in sessions of their own: they would go on using the GPU.

    As Ctrl-C would, so that a program may delete its files and pytest says what it has shown; then by force.
    """
    import psutil  # Accelerate needs it

    family = []
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(process.pid)
        family = [*leader.children(recursive=True), leader]
    with suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(GRACE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before the first part
        sys.exit(130)
