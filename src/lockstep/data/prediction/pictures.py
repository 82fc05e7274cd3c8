"""Images without labels, as people have them: image files, folders of them, IDX, npz and parquet files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import UnidentifiedImageError

from lockstep.config import error_text, with_retries
from lockstep.data.images.idx import IdxFile
from lockstep.data.images.image_pixels import UnreadableImage, read_image
from lockstep.data.sources.huggingface_sets import import_datasets, read_again, with_images


class PictureSource(Protocol):
    """Some of the images, numbered from 0."""

    def __len__(self) -> int:
        """How many there are."""

    def name(self, index: int) -> str:
        """Which image it is, for a person."""

    def read(self, index: int) -> Any:
        """A PIL image or an array; raises UnreadableImage."""


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """An image file."""

    path: Path
    damage: str = ""
    """Why it cannot be read, if that is known already."""

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        return str(self.path)

    def read(self, index: int) -> Any:
        if self.damage:
            raise UnreadableImage(self.damage)
        return read_image(self.path)


@dataclass(frozen=True, kw_only=True)
class IdxPictures:
    """The images of an IDX file, (samples, height, width)."""

    file: IdxFile
    is_transposed: bool
    """Whether rows and columns are swapped, as in EMNIST's files."""

    def __len__(self) -> int:
        return len(self.file)

    def name(self, index: int) -> str:
        return f"{self.file.path}[{index}]"

    def read(self, index: int) -> Any:
        try:
            pixels = self.file.rows(np.array([index]))[0]
        except OSError as error:
            raise UnreadableImage(error_text(error)) from error
        return pixels.T if self.is_transposed else pixels


@dataclass(frozen=True, kw_only=True)
class _NumberedPictures:
    """Images in one file, known by their numbers."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.path}[{index}]"


@dataclass(frozen=True, kw_only=True)
class ArrayPictures(_NumberedPictures):
    """The images of an array in an npz file, uint8, (samples, height, width) or with channels last."""

    key: str

    def read(self, index: int) -> Any:
        return array_in(self.path, self.key)[index]


@dataclass(frozen=True, kw_only=True)
class ParquetPictures(_NumberedPictures):
    """The images of a parquet file, as images of Hugging Face's `datasets` or as encoded bytes."""

    column: str

    def read(self, index: int) -> Any:
        try:
            return rows_of(self.path)[index][self.column]
        except UnidentifiedImageError as error:  # which names a buffer in memory
            raise UnreadableImage("cannot identify image file") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImage(" ".join(str(error).split())) from error


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """All of them, in the order in which they were named, and in a folder in the order of their paths."""

    sources: Sequence[PictureSource]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def find(self, index: int) -> tuple[PictureSource, int]:
        """The source of an image and its number there."""
        number = bisect_right(self._firsts, index) - 1
        return self.sources[number], index - self._firsts[number]

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of each source's first image."""
        return [0, *accumulate(map(len, self.sources))][:-1]


@lru_cache(maxsize=1)
def array_in(path: Path, key: str) -> np.ndarray:
    """An array of an npz file, which is unpacked once."""

    def read() -> np.ndarray:
        with np.load(path, allow_pickle=False) as file:
            return file[key]

    return with_retries(path, read)


@lru_cache(maxsize=1)
def rows_of(path: Path) -> Any:
    """The rows of a parquet file."""
    datasets = import_datasets("WHAT", str(path))
    return with_images(read_again(path, lambda: datasets.Dataset.from_parquet(str(path))))
