"""Image sets in the formats of Hugging Face's `datasets`, an optional package: saved folders and parquet."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.config import PASSING, DataConfig, is_file, is_folder, unreadable, with_retries
from lockstep.data.images.labelled_images import LabelledImages
from lockstep.data.sources.image_folder import ImageSource, check_same_classes, files_below
from lockstep.errors import first_line, refuse, require

TRAIN, TEST, VALIDATION = "train", "test", "validation"
COLUMNS = ("image", "label")
BINARY = ("binary", "large_binary")
"""Types of a column of encoded images, each the content of a file."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Two columns of a set as a map-style Dataset."""

    dataset: Any
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self.dataset[index]
        return row[self.image], row[self.label]


def open_huggingface(config: DataConfig) -> ImageSource:
    """The splits 'train', 'test' and, for data.validation split, 'validation' of 'huggingface:PATH'.

    PATH is a folder that `save_to_disk` wrote, a parquet file, or a folder of parquet files whose names begin
    with the split, such as train-00000-of-00002.parquet; any others are for training.

    Raises:
        ConfigError: the package is missing, there is no such set, or it has no images and labels.
    """
    datasets = import_datasets("data.name", config.name)
    _, _, place = config.name.partition(":")
    require(bool(place), "data.name", config.name, "names no file; write 'huggingface:PATH'")
    path = Path(place)
    is_there = is_file(path) or is_folder(path)
    require(is_there, "data.name", config.name, f"there is no {path}; name a local file or folder")
    for name, value in config.args.items():
        require(name in COLUMNS, f"data.args.{name}", value, "is not a column; state image or label")
    splits = _splits(datasets, config, path)
    rule = f"has the splits {', '.join(map(str, splits))}, and not {TRAIN!r}; rename one"
    require(TRAIN in splits, "data.name", config.name, rule)
    features = splits[TRAIN].features
    image = _column(config, "image", features, datasets.Image)
    label = _column(config, "label", features, datasets.ClassLabel)
    classes = tuple(getattr(features[label], "names", None) or ())
    parts = {}
    for name in (TRAIN, TEST, *((VALIDATION,) if config.has_split else ())):
        if name not in splits:
            continue
        has = splits[name].features
        missing = [column for column in (image, label) if column not in has]
        rule = f"has the columns {', '.join(has)} in {name}, and not {', '.join(missing)}; rename them"
        require(not missing, "data.name", config.name, rule)
        check_same_classes(config.name, name, classes, getattr(has[label], "names", None) or ())
        columns = Columns(dataset=splits[name].select_columns([image, label]), image=image, label=label)
        parts[name] = LabelledImages(name=f"{config.short_name} {name}", dataset=columns)
    return ImageSource(
        train=parts[TRAIN],
        test=parts.get(TEST),
        validation=parts.get(VALIDATION),
        classes=classes,
    )


def import_datasets(field: str, value: str) -> Any:
    """The package `datasets`, without its progress bars.

    Raises:
        ConfigError: it is not installed; names what needs it.
    """
    try:
        import datasets
    except ImportError as error:
        rule = "needs the package datasets; install it with: pip install lockstep-trainer[datasets]"
        raise refuse(field, value, rule) from error
    datasets.disable_progress_bars()
    return datasets


def with_images(rows: Any) -> Any:
    """A set whose encoded images, which other writers than `datasets` leave untyped, are decoded as images.

    Encoded is a column of bytes, or of {bytes, path}, in a set without a column of the type Image.
    """
    import datasets

    if any(isinstance(feature, datasets.Image) for feature in rows.features.values()):
        return rows
    for name, feature in rows.features.items():
        is_pair = isinstance(feature, dict) and set(feature) == {"bytes", "path"}
        if is_pair or getattr(feature, "dtype", "") in BINARY:
            rows = rows.cast_column(name, datasets.Image())
    return rows


def _splits(datasets: Any, config: DataConfig, path: Path) -> dict[str, Any]:
    """Split → set."""
    files: dict[str, list[str]] = {}
    if is_file(path):
        files = {TRAIN: [str(path)]}
    else:
        inside = sorted(map(Path, files_below(path, "data.name")))
        for file in (each for each in inside if each.suffix == ".parquet"):
            split = next((name for name in (TEST, VALIDATION) if file.name.startswith(name)), TRAIN)
            files.setdefault(split, []).append(str(file))

    def load() -> Any:
        if files:
            return datasets.load_dataset("parquet", data_files=files)
        return datasets.load_from_disk(str(path))

    try:
        loaded = read_again(path, load)
    except Exception as error:  # the package's own errors have no class in common
        if isinstance(error, OSError) and error.errno in (*PASSING, errno.EACCES):
            raise unreadable(error) from error
        rule = f"cannot be read ({first_line(error)}); name a folder of save_to_disk, or parquet files"
        raise refuse("data.name", config.name, rule) from error
    splits = dict(loaded) if isinstance(loaded, dict) else {TRAIN: loaded}
    return {name: with_images(rows) for name, rows in splits.items()}


def read_again(path: Path, load: Callable[[], Any]) -> Any:
    """`with_retries` for the package `datasets`, which wraps what a disk says in errors of its own."""

    def unwrapped() -> Any:
        try:
            return load()
        except Exception as error:
            cause = error.__cause__
            raise cause if isinstance(cause, OSError) else error from None

    return with_retries(path, unwrapped)


def _column(config: DataConfig, what: str, features: Any, kind: type) -> str:
    """The column that is stated, or the only one of a kind, or the one of that name."""
    stated = config.args.get(what)
    candidates = [name for name, feature in features.items() if isinstance(feature, kind)]
    name = stated or (candidates[0] if len(candidates) == 1 else what)
    rule = f"is not one of the columns {', '.join(features)}; state --data.args.{what}"
    require(name in features, f"data.args.{what}", name, rule)
    return name
