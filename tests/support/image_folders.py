"""Writes small sets of image files, as users have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lockstep.data.synthetic import synthetic_images

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


def write_images(folder: Path, images: list[Image.Image]) -> None:
    """Writes images into a folder for each class, as JPEG and PNG."""
    for index, image in enumerate(images):
        target = folder / list(COLOURS)[index % 3]
        target.mkdir(parents=True, exist_ok=True)
        image.save(target / f"{index:03}.{'png' if index % 2 else 'jpg'}")


def colour_folder(root: Path, num_train: int = 120, num_test: int = 30, **options: tuple[int, int]) -> Path:
    """Writes train/CLASS and test/CLASS; returns the root."""
    write_images(root / "train", colour_images(num_train, **options))
    write_images(root / "test", colour_images(num_test, first_id=1000, **options))
    return root
