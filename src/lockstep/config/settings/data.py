"""The part of the config tree that says which images are learnt from, and how they are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from lockstep.config.choices import check_choice, check_choices
from lockstep.config.keyword_arguments import plain_arguments
from lockstep.errors import require

DIGIT_SETS = ("mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits", "synthetic")
"""The sets of 28 x 28 grey pixels in ten classes. A test holds this equal to the table in lockstep.data."""
GENERATED_DATA = ("synthetic",)
"""The data sets that have no files."""
FOLDER = "folder"
"""The name of image files in data.root."""
SPLIT = "split"
"""The value of data.validation that means the source's own validation split."""
StorageName = Literal["resident", "streamed"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data, and how it is read."""

    name: str = "mnist"
    """Data set: mnist, fashion-mnist, kmnist, qmnist, emnist-digits, or synthetic (generated, for quick
    tests). Or folder: images in data.root/train/CLASS and data.root/test/CLASS. Or torchvision:NAME, such as
    torchvision:CIFAR10; or huggingface:PATH; or your own, as 'package.module:function'."""
    args: dict[str, Any] = field(default_factory=dict)
    """Arguments of your own function, of torchvision's class, or the columns of a Hugging Face set, such as
    '--data.args.image picture'. Values are read as YAML."""
    root: str = "data"
    """Folder of the files. Missing ones of a named set are fetched into it."""
    image_size: int = 0
    """Resize the shorter side to this many pixels and cut out the central square. 0: images as they are;
    they must then have the same size. Not for the sets of digits."""
    transforms: dict[str, Any] = field(default_factory=dict)
    """Transforms of torchvision.transforms.v2 for each training image, by name and arguments, such as
    '--data.transforms.RandomHorizontalFlip "{p: 0.5}"'. The images are then streamed."""
    num_train: int = 0
    """Train on this many samples only, the first ones. 0: all of them."""
    validation: float | Literal["split"] = 0.0
    """Training samples that are held out, to choose the best checkpoint by: a fraction below 1, or how many.
    The seed says which. split: the source's own, such as data.root/validation/CLASS or a task's `validation`.
    0: none."""
    drop_last: bool = False
    """Leave out the last, incomplete global batch of each epoch."""
    storage: StorageName = "resident"
    """Where the training images are kept. resident: on the device. streamed: on disk, prefetched by worker
    processes, for a set that does not fit into memory. The losses are the same."""
    num_workers: int = 0
    """Worker processes per rank that read ahead what is not on the device: streamed images, and a task's
    Dataset. 0: the rank reads by itself. The losses are the same."""
    worker_context: Literal["fork", "spawn", "forkserver"] = "fork"
    """How workers start. fork: at once. spawn and forkserver: each imports torch anew (seconds), which a data
    set that uses CUDA or has threads needs."""
    fetch_timeout_seconds: float = 120.0
    """Time limit for each source that missing files are fetched from (seconds)."""

    def __post_init__(self) -> None:
        check_choices(self, "data")
        if ":" not in self.name:
            own = ", or torchvision:NAME, huggingface:PATH, or your own as 'package.module:function'"
            check_choice("data.name", self.name, [*DIGIT_SETS, FOLDER], alternative=own)
        self._check_kind()
        require(self.image_size >= 0, "data.image_size", self.image_size, "must be >= 0 pixels")
        require(self.num_train >= 0, "data.num_train", self.num_train, "must be >= 0; 0 uses all samples")
        held_out: Any = self.validation
        is_number = isinstance(held_out, int | float) and held_out >= 0
        is_fine = held_out == SPLIT or (is_number and (held_out < 1 or float(held_out).is_integer()))
        rule = "must be a fraction below 1, or a whole number of samples, or 'split'; 0 holds none out"
        require(is_fine, "data.validation", held_out, rule)
        require(
            self.storage == "resident" or self.name not in GENERATED_DATA,
            "data.storage",
            self.storage,
            f"needs files, and data.name = {self.name!r} has none; leave it at resident",
        )
        require(self.num_workers >= 0, "data.num_workers", self.num_workers, "must be >= 0 processes")
        is_used = self.num_workers > 0 or self.worker_context == "fork"
        rule = "is for data.num_workers >= 1, and there are none; leave it at fork"
        require(is_used, "data.worker_context", self.worker_context, rule)
        seconds = self.fetch_timeout_seconds
        require(seconds > 0, "data.fetch_timeout_seconds", seconds, "must be > 0 seconds; the default is 120")

    def _check_kind(self) -> None:
        for name in ("args", "transforms"):
            object.__setattr__(self, name, plain_arguments(f"data.{name}", getattr(self, name)))
        for name, arguments in self.transforms.items():
            rule = "must be a map of its arguments, such as '{p: 0.5}', or '{}' for none"
            require(isinstance(arguments, dict), f"data.transforms.{name}", arguments, rule)
        rule = (
            f"are for a function or class that data.name names, and {self.name!r} is not one; leave them out"
        )
        require(":" in self.name or not self.args, "data.args", self.args, rule)
        rule = f"is for images of your own, and those of {self.name!r} have 28 x 28 pixels; leave it at 0"
        require(not self.is_digits or self.image_size == 0, "data.image_size", self.image_size, rule)

    def num_held_out(self, num_samples: int) -> int:
        """How many of the training samples are held out for validation.

        Raises:
            ConfigError: none would be left, or none would be held out.
        """
        if self.validation == SPLIT or self.validation == 0:
            return 0
        value = float(self.validation)
        count = int(value * num_samples) if value < 1 else int(value)
        rule = f"must leave some of the {num_samples} training samples, and hold out at least one"
        require(0 < count < num_samples, "data.validation", self.validation, rule)
        return count

    @property
    def has_split(self) -> bool:
        """Whether the source's own validation split is used."""
        return self.validation == SPLIT

    @property
    def is_digits(self) -> bool:
        """Whether the images are 28 x 28 grey pixels in ten classes, which is known before any is read."""
        return self.name in DIGIT_SETS

    @property
    def in_use(self) -> StorageName:
        """Where the training images are kept: what transforms change one by one is streamed."""
        return "streamed" if self.transforms else self.storage

    @property
    def short_name(self) -> str:
        """The name as part of a folder's name: 'CIFAR10', 'mnist', a function's module, a file's stem."""
        kind, _, rest = self.name.partition(":")
        if kind == "torchvision" or not rest:
            return rest or kind
        if kind != "huggingface":
            return kind.rpartition(".")[2]
        stem = re.split(r"[/\\]", rest.rstrip("/\\"))[-1].rpartition(".parquet")
        return re.sub(r"[^\w.-]", "-", stem[0] or stem[2]).strip(".") or "huggingface"
