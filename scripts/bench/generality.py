"""What digits pay for a trainer of any task: this tree against the last commit that trained digits alone.

Both train the same steps of the default recipe, in fresh processes that take turns. The other commit is
unpacked from this repository's history into a temporary folder.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import ROOT, Bench, main, side_by_side
from results import Row, median_row, ratio

DIGITS_ALONE = "d4b7ae6"
WHAT = "training of cnn.yaml: now / digits alone"


def measure(bench: Bench) -> list[Row]:
    """Seconds of training of both, in turn. A clone without its history has nothing to compare with."""
    asked = ["git", "cat-file", "-e", DIGITS_ALONE]
    if subprocess.run(asked, cwd=ROOT, stderr=subprocess.DEVNULL).returncode:
        return [Row(what=f"{WHAT} (commit {DIGITS_ALONE} is not in this clone)", value=None, at_most=1.02)]
    with TemporaryDirectory() as folder:
        before = Path(folder, "before")
        unpack(DIGITS_ALONE, before)
        trees = {"now": ROOT, "before": before}
        blocks = {name: partial(training_seconds, tree, bench) for name, tree in trees.items()}
        times = side_by_side(blocks, bench.count(8), num_warm_ups=0)
    return [
        ratio(WHAT, times["now"], times["before"], at_most=1.02),
        median_row(f"training of cnn.yaml, {bench.count(200)} steps", times["now"], "s"),
    ]


def unpack(commit: str, folder: Path) -> None:
    """Writes the package, scripts and recipes of a commit into a folder."""
    command = ["git", "archive", commit, "src", "scripts", "configs"]
    archive = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def training_seconds(tree: Path, bench: Bench) -> float:
    """`train_seconds` of a run of the default recipe with a tree's own code, in a fresh process."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "scripts/train.py", "--config", "configs/cnn.yaml"]
        command += ["--data.root", str(Path(bench.data_root).absolute())]
        command += ["--train.steps", str(bench.count(200)), "--train.no-report"]
        command += ["--tracking.mode", "disabled", "--run.dir", folder, "--run.name", "run"]
        environ = {**os.environ, "PYTHONPATH": str(tree / "src")}
        subprocess.run(
            command, cwd=tree, env=environ, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        return float(json.loads(Path(folder, "run", "summary.json").read_text())["train_seconds"])


if __name__ == "__main__":
    main(measure)
