"""Trains configs/best.yaml and checks that it reaches 99.7 % on the test set; --quick takes two steps."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent.parent
GOAL = 0.997
QUICK = (
    *("--train.steps", "2", "--data.num-train", "256", "--precision", "no", "--model.name", "mlp"),
    *("--batch.global-size", "32", "--batch.micro-size", "32"),
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default="data", help="folder with MNIST/raw (default: data)")
    parser.add_argument("--quick", action="store_true", help="try the command")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "lockstep", "train", "--config", str(ROOT / "configs" / "best.yaml")]
        words += ["--data.root", asked.data_root, "--run.dir", folder, "--run.name", "best"]
        words += ["--tracking.mode", "disabled", *(QUICK if asked.quick else ())]
        subprocess.run(words, check=True)
        summary = json.loads((Path(folder) / "best" / "summary.json").read_text())
    print(f"accuracy {summary['test_accuracy']:.4f} after {summary['train_seconds']:.1f} s of training")
    sys.exit(not asked.quick and summary["test_accuracy"] < GOAL)


if __name__ == "__main__":
    main()
