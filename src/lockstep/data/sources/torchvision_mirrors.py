"""Fetches a data set's files from the mirrors that torchvision knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TRAIN_AND_TEST = ({"train": True}, {"train": False})


def fetch_with_torchvision(
    class_name: str, folder: Path, timeout_seconds: float, splits: tuple[dict[str, Any], ...] = TRAIN_AND_TEST
) -> None:
    """Writes the uncompressed files of a class of torchvision.datasets into a folder.

    It runs in a process of its own: torchvision has no time limit, and a process can be killed.

    Args:
        class_name: such as "KMNIST".
        folder: where to write the files.
        timeout_seconds: the time limit.
        splits: the arguments of the class for the training set and for the test set.

    Raises:
        OSError, subprocess.SubprocessError: the files could not be fetched in time.
    """
    program = (
        "from torchvision import datasets\n"
        f"for split in {splits!r}:\n"
        f"    datasets.{class_name}({str(folder)!r}, download=True, **split)\n"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_seconds)
    for path in (folder / class_name / "raw").iterdir():
        os.replace(path, folder / path.name)
