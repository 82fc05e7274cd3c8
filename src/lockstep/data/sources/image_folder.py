"""Images in folders, ROOT/train/CLASS/FILE, as for torchvision's ImageFolder; ROOT/test likewise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from lockstep.config import DataConfig, is_folder, unreadable, with_retries
from lockstep.data.images.image_pixels import UnreadableFile, UnreadableImage, read_image
from lockstep.data.images.labelled_images import LabelledImages
from lockstep.errors import refuse, require

TRAIN, TEST, VALIDATION = "train", "test", "validation"
FIELD = "data.root"


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """The images of a data set, before any of them is read."""

    train: LabelledImages
    test: LabelledImages | None = None
    validation: LabelledImages | None = None
    """The source's own validation split; for data.validation split."""
    classes: tuple[str, ...] = ()
    """Their names; empty if they have none."""


def check_same_classes(name: str, which: str, train: Sequence[str], scored: Sequence[str]) -> None:
    """Checks that a label means the same class in training and in another split, if both name their classes.

    Raises:
        ConfigError: it does not.
    """
    known = zip_longest(train, scored) if train and scored else ()
    for number, (one, other) in enumerate(known):
        rule = (
            f"class {number} is {one!r} in train and {other!r} in {which}; give both the same list of classes"
        )
        require(one == other, "data.name", name, rule)


@dataclass(frozen=True, kw_only=True)
class FileImages:
    """Image files with labels, as a map-style Dataset."""

    paths: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Raises ConfigError, if the file cannot be read or is not an image."""
        path = self.paths[index]
        try:
            return read_image(Path(path)), self.labels[index]
        except UnreadableFile as error:
            raise refuse(FIELD, path, f"cannot be read ({error}); make it readable") from error
        except UnreadableImage as error:
            raise refuse(FIELD, path, f"is not a readable image ({error}); remove it") from error


def open_folder(config: DataConfig) -> ImageSource:
    """Finds the files. A class is a folder; its number is its place in the order of their names.

    Raises:
        ConfigError: a folder is missing, holds no images, or the test images are of other classes.
    """
    root = Path(config.root)
    expected = f"expected {root / TRAIN}/CLASS/FILE.jpg (or .png, …), and optionally {root / TEST}/CLASS/…"
    is_there = is_folder(root / TRAIN)
    require(is_there, FIELD, config.root, f"has no folder {TRAIN!r}; {expected}")
    classes = _classes(root / TRAIN)
    require(bool(classes), FIELD, config.root, f"has no class folder in {TRAIN!r}; {expected}")
    return ImageSource(
        train=_split(root / TRAIN, classes, classes),
        test=_scored_split(root / TEST, root, classes, expected),
        validation=_scored_split(root / VALIDATION, root, classes, expected) if config.has_split else None,
        classes=tuple(classes),
    )


def _scored_split(folder: Path, root: Path, classes: Sequence[str], expected: str) -> LabelledImages | None:
    """The images of a split that is not trained on; None if there is no such folder."""
    if not is_folder(folder):
        return None
    present = _classes(folder)
    unknown = [name for name in present if name not in classes]
    if unknown:
        rule = (
            f"has a class that {root / TRAIN} does not have; the classes there are {', '.join(classes[:20])}"
        )
        raise refuse(FIELD, str(folder / unknown[0]), rule)
    require(bool(present), FIELD, str(folder), f"holds no class folder; {expected}")
    return _split(folder, classes, present)


def _classes(folder: Path) -> list[str]:
    try:
        names = with_retries(folder, lambda: os.listdir(folder))
    except OSError as error:
        raise unreadable(error) from error
    return sorted(name for name in names if name[0] != "." and is_folder(folder / name))


def _split(folder: Path, classes: Sequence[str], present: Sequence[str]) -> LabelledImages:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    paths: list[str] = []
    labels: list[int] = []
    for name in present:
        inside = [path for path in files_below(folder / name) if path.lower().endswith(IMG_EXTENSIONS)]
        rule = f"holds no images ({', '.join(IMG_EXTENSIONS)}); remove it or fill it"
        require(bool(inside), FIELD, str(folder / name), rule)
        paths += inside
        labels += [classes.index(name)] * len(inside)
    files = FileImages(paths=paths, labels=labels)
    return LabelledImages(name=str(folder), dataset=files, paths=paths, folder=str(folder))


def files_below(folder: Path, field: str = FIELD) -> list[str]:
    """The files in a folder and below, in the order of torchvision's ImageFolder, without hidden ones.

    torchvision's own walk passes over a folder that it cannot list, goes round a link that leads back, and
    takes for images what macOS writes beside each of them (`._NAME.jpg`).

    Raises:
        ConfigError: a folder cannot be listed, or a link leads back to a folder above it.
    """

    def failed(error: OSError) -> None:
        raise error

    def walked() -> list[tuple[str, list[str], list[str]]]:
        entries = []
        for parent, folders, files in os.walk(folder, onerror=failed, followlinks=True):
            folders[:] = [name for name in folders if name[0] != "."]
            for path in (os.path.join(parent, name) for name in folders):
                rule = "leads back to a folder above it, whose images would count again; remove the link"
                require(not os.path.islink(path) or not leads_back(path), field, path, rule)
            entries.append((parent, folders, [name for name in files if name[0] != "."]))
        return sorted(entries)

    try:
        walk = with_retries(folder, walked)
    except OSError as error:
        raise unreadable(error) from error
    return [os.path.join(parent, name) for parent, _, files in walk for name in sorted(files)]


def leads_back(link: str) -> bool:
    """Whether a link leads to a folder that it lies in, perhaps by another link on its path."""
    target = os.path.realpath(link)
    return any(Path(os.path.realpath(folder)).is_relative_to(target) for folder in Path(link).parents)
