"""What settle.py needs before its first part: packages, data, a GPU. What is missing ends it in one line."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent.parent
WHEELS = ROOT / "wheels"
TEST_PACKAGES = ("hypothesis", "pytest", "pytest-timeout")
"""What tests/gpu needs besides Lockstep's own dependencies."""


def stop(text: str) -> NoReturn:
    """Ends the script with one line and the exit code of a user's mistake."""
    print(f"settle.py: {text}", file=sys.stderr)
    sys.exit(2)


def check_python() -> None:
    """Lockstep runs on what pyproject.toml says, and older systems come with less."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the interpreter is the user's
        stop(f"Python {sys.version.split()[0]} is too old; start it with 3.11 or a newer one")


def checked_data_root(data_root: str) -> str:
    """The absolute path of the data, as the parts run in the checkout's folder."""
    path = Path(data_root).resolve()
    if not (path / "MNIST" / "raw").is_dir():
        fetch = "lockstep fetch --data.name mnist --data.root data"
        stop(f"--data-root {data_root}: has no folder MNIST/raw; where there is a network: {fetch}")
    return str(path)


def environment(folder: Path) -> dict[str, str]:
    """The variables of each part: this checkout first, then packages from wheels/ if any are missing.

    Args:
        folder: a temporary one, for these packages and for all temporary files of the parts.
    """
    path = [ROOT / "src", ROOT / "tests" / "support"]
    if missing := missing_packages():
        path.append(packages_from_wheels(folder / "packages", missing))
    (folder / "tmp").mkdir()
    variables = {**os.environ, "TMPDIR": str(folder / "tmp")}
    variables["PYTHONPATH"] = os.pathsep.join([*map(str, path), *filter(None, [os.getenv("PYTHONPATH")])])
    variables.pop("PYTEST_ADDOPTS", None)  # may leave out tests
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # makes each start longer
    return variables


def missing_packages() -> list[str]:
    """What the project depends on and this Python does not have."""
    import tomllib  # not in Python 3.10, which is refused by name

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in declared]
    return [name for name in (*names, *TEST_PACKAGES) if not is_installed(name)]


def is_installed(name: str) -> bool:
    """Whether a package is installed for this Python."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def packages_from_wheels(target: Path, missing: list[str]) -> Path:
    """Unpacks wheels/ into a folder, which becomes part of Python's path: nothing is installed."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    remedy = f"make wheels WHEELS_PYTHON={python}"
    wheels = [str(wheel) for wheel in sorted(WHEELS.glob("*.whl"))]
    if not wheels:
        stop(f"missing: {', '.join(missing)}; where there is a network: {remedy}, and bring wheels/ here")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-warn-conflicts", "--target", str(target), *wheels]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        stop(f"wheels/ cannot be used by Python {python} ({lines[-1] if lines else 'no reason'}); {remedy}")
    return target


def count_gpus() -> int:
    """How many GPUs the parts may use. This process uses none: one in exclusive mode is left to the parts."""
    import torch

    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    return 0 if wants_cpu else torch.cuda.device_count()
