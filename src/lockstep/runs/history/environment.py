"""What a run's numbers depend on in addition to its config: device, threads and library versions."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from importlib.metadata import files as files_of
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import accelerate
import torch

import lockstep
from lockstep.config import Config, is_installed, source_file, users_modules
from lockstep.launch.ranks.gpus import gpu_facts
from lockstep.launch.ranks.ranks import Ranks

KERNEL_VARIABLES = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"),
)
"""The variables that tell oneDNN and MKL which instructions to use; torch's own shows in its capability."""

CODE = (".py", ".so", ".pyd")
"""How the names of files end that Python imports."""
PACKAGES = {name: name for name in ("torchvision", "datasets", "numpy")} | {"PIL": "pillow"}
"""Module → distribution, of what Lockstep itself reads data with and takes models from."""


def device_name(ranks: Ranks) -> str:
    """The name of a GPU as its vendor gives it; of another device its type, such as 'cpu'."""
    if ranks.device.type == "cuda":
        return torch.cuda.get_device_name(ranks.device)
    return ranks.device.type


def environment(ranks: Ranks) -> dict[str, Any]:
    """The environment as JSON values. If device, threads and versions are equal, the bits are equal."""
    gpu: dict[str, Any] = {"gpu": gpu_facts(ranks.device)} if ranks.device.type == "cuda" else {}
    versions: dict[str, Any] = {
        "lockstep": lockstep.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
    }
    return {
        "world_size": ranks.world_size,
        "num_threads": ranks.num_threads,
        "device": device_name(ranks),
        "cpu": cpu_facts(),
        **gpu,
        "versions": versions,
    }


def package_versions(config: Config) -> dict[str, str]:
    """Distribution → version, of what data and code of a run are read with, once it is imported."""
    names = {PACKAGES[module] for module in PACKAGES.keys() & sys.modules.keys()}
    return {name: version(name) for name in sorted(names | set(_named_packages(config)))}


def package_digests(config: Config) -> dict[str, str]:
    """Distribution → SHA-256 of what its installer recorded of its code, for packages that the settings name.

    One that is installed again from another source often keeps its version.
    """
    digests = {}
    for name in _named_packages(config):
        files = {str(each): each.hash.value for each in files_of(name) or () if each.hash is not None}
        code = sorted((path, value) for path, value in files.items() if path.endswith(CODE))
        digests[name] = hashlib.sha256(repr(code).encode()).hexdigest()
    return digests


def _named_packages(config: Config) -> list[str]:
    """The distributions of the installed modules that the settings name."""
    names: set[str] = set()
    for module in users_modules(config).values():
        file = source_file(module)
        if file is not None and is_installed(module, file):
            names |= set(packages_distributions().get(module.partition(".")[0], []))
    return sorted(names - {"lockstep-trainer", "torch"})


def cpu_facts() -> dict[str, Any]:
    """What the kernels on a CPU are chosen by: its model, the instructions for torch, and limits to them."""
    return {
        "model": cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "limits": {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ},
    }


def cpu_model() -> str:
    """The name of the CPU; on Arm, where Linux gives none, the numbers that stand for it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    first = dict(re.findall(r"^([^\t:]+)\t*: *(.+)$", text.split("\n\n")[0], re.MULTILINE))
    numbers = [first[name] for name in ("CPU implementer", "CPU part", "CPU variant") if name in first]
    return first.get("model name") or " ".join([platform.machine(), *numbers])
