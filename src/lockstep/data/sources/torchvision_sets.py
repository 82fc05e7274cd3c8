"""Classification sets of torchvision.datasets that take root, train and download, as CIFAR10 does."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from lockstep.config import DataConfig, check_arguments, nearest
from lockstep.data.images.labelled_images import LabelledImages
from lockstep.data.sources.image_folder import ImageSource
from lockstep.errors import first_line, refuse, require
from lockstep.launch import unlimited

PASSED = ("root", "train", "download")


def open_torchvision(config: DataConfig) -> ImageSource:
    """The training and the test set of 'torchvision:NAME', fetched into `config.root` if they are missing.

    Raises:
        ConfigError: there is no such set, it is of another form, or it cannot be fetched.
    """
    from torchvision import datasets

    name = config.name.partition(":")[2]
    kinds = {
        each: getattr(datasets, each) for each in datasets.__all__ if each != "wrap_dataset_for_transforms_v2"
    }
    usable = {each: kind for each, kind in kinds.items() if set(PASSED) <= _parameters(kind)}
    if name not in kinds:
        near = nearest(name, usable)
        hint = f"perhaps you meant 'torchvision:{near}'" if near else f"there are {', '.join(usable)}"
        raise refuse("data.name", config.name, f"is not in torchvision.datasets; {hint}")
    if name not in usable:
        takes = ", ".join(inspect.signature(kinds[name]).parameters)
        rule = f"takes ({takes}), not (root, train, download); make both sets in a function of your own and"
        raise refuse("data.name", config.name, f"{rule} name it as 'package.module:function'")
    check_arguments("data.args", usable[name], config.args, reserved=PASSED)
    train, test = _opened(usable[name], config, True), _opened(usable[name], config, False)
    return ImageSource(
        train=LabelledImages(name=f"{name} train", dataset=train),
        test=LabelledImages(name=f"{name} test", dataset=test),
        classes=tuple(map(str, getattr(train, "classes", ()))),
    )


def _parameters(kind: Any) -> set[str]:
    """The arguments of a class; none if it is not a Dataset."""
    return set(inspect.signature(kind).parameters) if isinstance(kind, type) else set()


def _opened(kind: Any, config: DataConfig, train: bool) -> Any:
    try:
        return kind(config.root, train=train, download=False, **config.args)
    except (RuntimeError, OSError):  # the files are missing, or are not what torchvision expects
        _download(kind.__name__, config, train)
    try:
        return kind(config.root, train=train, download=False, **config.args)
    except (RuntimeError, OSError) as error:
        rule = f"holds no {kind.__name__} that torchvision can read ({first_line(error)})"
        raise refuse("data.root", config.root, f"{rule}; delete its files to fetch them again") from error


def _download(name: str, config: DataConfig, train: bool) -> None:
    """Lets torchvision fetch the files, in a process that can be stopped, one process at a time."""
    arguments = {"train": train, "download": True, **config.args}
    program = f"from torchvision import datasets\ndatasets.{name}({config.root!r}, **{arguments!r})\n"
    seconds = config.fetch_timeout_seconds
    print(f"lockstep: fetching {config.name} with torchvision …", file=sys.stderr, flush=True)
    reason = f"no answer within {seconds:g} s (data.fetch_timeout_seconds)"
    try:
        Path(config.root).mkdir(parents=True, exist_ok=True)
        with unlimited(), FileLock(Path(config.root) / ".fetch.lock"):
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=seconds
            )
        reason = next(reversed(done.stderr.strip().splitlines()), "") if done.returncode else ""
    except subprocess.TimeoutExpired:
        pass
    except OSError as error:
        reason = str(error)
    rule = f"does not hold all files of {config.name}, and fetching them failed ({reason}); "
    rule += "on a machine with internet, run `lockstep fetch` with the same settings, and copy the folder"
    require(not reason, "data.root", config.root, rule)
