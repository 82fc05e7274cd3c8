"""Images in folders, ROOT/train/CLASS/FILE, as for torchvision's ImageFolder; ROOT/test likewise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lockstep.config import DataConfig
from lockstep.data.images.image_pixels import UnreadableImage, read_image
from lockstep.data.images.labelled_images import LabelledImages
from lockstep.errors import refuse, require

TRAIN, TEST, VALIDATION = "train", "test", "validation"


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """The images of a data set, before any of them is read."""

    train: LabelledImages
    test: LabelledImages | None = None
    validation: LabelledImages | None = None
    """The source's own validation split; for data.validation split."""
    classes: tuple[str, ...] = ()
    """Their names; empty if they have none."""


@dataclass(frozen=True, kw_only=True)
class FileImages:
    """Image files with labels, as a map-style Dataset."""

    paths: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Raises ConfigError, if the file is not an image."""
        path = self.paths[index]
        try:
            return read_image(Path(path)), self.labels[index]
        except UnreadableImage as error:
            raise refuse("data.root", path, f"is not a readable image ({error}); remove it") from error


def open_folder(config: DataConfig) -> ImageSource:
    """Finds the files. A class is a folder; its number is its place in the order of their names.

    Raises:
        ConfigError: a folder is missing, holds no images, or the test images are of other classes.
    """
    root = Path(config.root)
    expected = f"expected {root / TRAIN}/CLASS/FILE.jpg (or .png, …), and optionally {root / TEST}/CLASS/…"
    is_there = (root / TRAIN).is_dir()
    require(is_there, "data.root", config.root, f"has no folder {TRAIN!r}; {expected}")
    classes = _classes(root / TRAIN)
    require(bool(classes), "data.root", config.root, f"has no folder of a class in {TRAIN!r}; {expected}")
    return ImageSource(
        train=_split(root / TRAIN, classes, classes),
        test=_scored_split(root / TEST, root, classes, expected),
        validation=_scored_split(root / VALIDATION, root, classes, expected) if config.has_split else None,
        classes=tuple(classes),
    )


def _scored_split(folder: Path, root: Path, classes: Sequence[str], expected: str) -> LabelledImages | None:
    """The images of a split that is not trained on; None if there is no such folder."""
    if not folder.is_dir():
        return None
    found = _classes(folder)
    unknown = [name for name in found if name not in classes]
    if unknown:
        rule = (
            f"has a class that {root / TRAIN} does not have; the classes there are {', '.join(classes[:20])}"
        )
        raise refuse("data.root", str(folder / unknown[0]), rule)
    require(bool(found), "data.root", str(folder), f"holds no folder of a class; {expected}")
    return _split(folder, classes, found)


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _split(folder: Path, classes: Sequence[str], found: Sequence[str]) -> LabelledImages:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    numbers = {name: classes.index(name) for name in found}
    samples = make_dataset(str(folder), numbers, extensions=IMG_EXTENSIONS, allow_empty=True)
    labels = [label for _, label in samples]
    filled = set(labels)
    for name, number in numbers.items():
        if number not in filled:
            rule = f"holds no images ({', '.join(IMG_EXTENSIONS)}); remove it or fill it"
            raise refuse("data.root", str(folder / name), rule)
    paths = [path for path, _ in samples]
    return LabelledImages(name=str(folder), dataset=FileImages(paths=paths, labels=labels), paths=paths)
