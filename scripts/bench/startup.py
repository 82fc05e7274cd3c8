"""Time in fresh processes besides training: to the help text, to the first step, and of a whole command.

The first step ends when its line is printed. Files are in the page cache: the first round, which fills it,
is dropped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import LOCKSTEP, ROOT, Bench, command_seconds, main, side_by_side
from results import Row, median_row

IMPORT = "import torch, accelerate"


def measure(bench: Bench) -> list[Row]:
    """Seconds to the help text, for the bare import, to the first step, and besides training."""
    recipes = ("debug.yaml", "cnn.yaml")
    times = side_by_side(
        {
            "help": partial(command_seconds, [*LOCKSTEP, "--help"]),
            "import": partial(command_seconds, [sys.executable, "-c", IMPORT]),
            **{name: partial(first_step_seconds, name, bench.data_root) for name in recipes},
            "whole": partial(seconds_besides_training, "speedrun.yaml", bench),
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
        median_row(
            "whole command minus training minus the import, speedrun.yaml",
            [a - b for a, b in zip(times["whole"], times["import"], strict=True)],
            "s",
            at_most=0.8,
        ),
    ]


def first_step_seconds(config: str, data_root: str) -> float:
    """Seconds until `lockstep train` prints its first step; the run is then killed."""
    with TemporaryDirectory() as folder:
        command = [*train_words(config, data_root, folder), "--train.log-every", "1"]
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


def seconds_besides_training(config: str, bench: Bench) -> float:
    """Seconds of a whole `lockstep train`, its report included, without those of its steps."""
    with TemporaryDirectory() as folder:
        command = [*train_words(config, bench.data_root, folder), "--run.name", "run"]
        seconds = command_seconds([*command, *(["--train.steps", "20"] if bench.is_quick else [])])
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    return seconds - float(summary["train_seconds"])


def train_words(config: str, data_root: str, folder: str) -> list[str]:
    """The words of a command that trains a recipe."""
    words = [*LOCKSTEP, "train", "--config", str(ROOT / "configs" / config)]
    return [*words, "--data.root", data_root, "--run.dir", folder, "--tracking.mode", "disabled"]


if __name__ == "__main__":
    main(measure)
