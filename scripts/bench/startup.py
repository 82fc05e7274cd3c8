"""Start-up time in fresh processes: to the help text, and to the first optimizer step.

The first step ends when its line is printed. Files are in the page cache: the first round, which fills it,
is dropped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from tempfile import TemporaryDirectory

from harness import BIN, ROOT, Bench, command_seconds, main, side_by_side
from results import Row, median_row

IMPORT = "import torch, accelerate"


def measure(bench: Bench) -> list[Row]:
    """Seconds to the help text, for the bare import, and to the first step of two recipes."""
    recipes = ("debug.yaml", "cnn.yaml")
    times = side_by_side(
        {
            "help": partial(command_seconds, [str(BIN / "lockstep"), "--help"]),
            "import": partial(command_seconds, [sys.executable, "-c", IMPORT]),
            **{name: partial(first_step_seconds, name, bench.data_root) for name in recipes},
        },
        bench.count(5),
    )
    return [
        median_row("`lockstep --help`", times["help"], "s", at_most=0.5),
        median_row(f"`{IMPORT}` alone", times["import"], "s"),
        *(median_row(f"to the first step, {name}", times[name], "s") for name in recipes),
        *(
            median_row(
                f"to the first step minus the import, {name}", [a - b for a, b in pairs], "s", at_most=1.5
            )
            for name in recipes
            for pairs in [zip(times[name], times["import"], strict=True)]
        ),
    ]


def first_step_seconds(config: str, data_root: str) -> float:
    """Seconds until `lockstep train` prints its first step; the run is then killed."""
    with TemporaryDirectory() as folder:
        command = [str(BIN / "lockstep"), "train", "--config", str(ROOT / "configs" / config)]
        command += ["--data.root", data_root, "--run.dir", folder, "--train.log-every", "1"]
        command += ["--tracking.mode", "disabled"]
        begin = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "step 1/" in line:
                    seconds = time.perf_counter() - begin
                    process.kill()
                    return seconds
    raise subprocess.CalledProcessError(process.returncode, command)


if __name__ == "__main__":
    main(measure)
