"""Writes small sets of image files, as users have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lockstep.data.sources.synthetic import synthetic_images

COLOURS = {"blue": (0.2, 0.4, 1.0), "green": (0.2, 1.0, 0.3), "red": (1.0, 0.3, 0.2)}


def colour_images(count: int, first_id: int = 0, sizes: tuple[int, int] = (28, 60)) -> list[Image.Image]:
    """Coloured patterns of mixed sizes, in pixels; the class of each is its place modulo three."""
    draws = np.random.default_rng(first_id)
    grey, _ = synthetic_images(0, count, first_id)
    images = []
    for index, pixels in enumerate(grey):
        colour = list(COLOURS.values())[index % 3]
        height, width = draws.integers(sizes[0], sizes[1], size=2, endpoint=True).tolist()
        image = Image.fromarray((pixels[..., None] * np.array(colour)).astype(np.uint8))
        images.append(image.resize((width, height)))
    return images


def write_images(folder: Path, images: list[Image.Image], num_classes: int = 3) -> None:
    """Writes images into a folder for each class, as JPEG and PNG; more than three share the colours."""
    classes = [f"{list(COLOURS)[index % 3]}{index // 3 or ''}" for index in range(num_classes)]
    for index, image in enumerate(images):
        target = folder / classes[index % num_classes]
        target.mkdir(parents=True, exist_ok=True)
        image.save(target / f"{index:03}.{'png' if index % 2 else 'jpg'}")


def digit_folder(root: Path, classes: Sequence[int], num_train: int = 200, num_test: int = 100) -> Path:
    """Writes those of the generated digits that are of some classes, as PNG; returns the root."""
    for split, count, first_id in (("train", num_train, 0), ("test", num_test, 1000)):
        for index, (pixels, label) in enumerate(zip(*synthetic_images(0, count, first_id), strict=True)):
            if label in classes:
                target = root / split / str(label)
                target.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(target / f"{index:03}.png")
    return root


def colour_folder(
    root: Path,
    num_train: int = 120,
    num_test: int = 30,
    num_classes: int = 3,
    **options: tuple[int, int],
) -> Path:
    """Writes train/CLASS and test/CLASS; returns the root."""
    write_images(root / "train", colour_images(num_train, **options), num_classes)
    write_images(root / "test", colour_images(num_test, first_id=1000, **options), num_classes)
    return root
