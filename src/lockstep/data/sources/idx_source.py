"""A data set in four IDX files: which they are, where they are kept, how they are checked and opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lockstep.config import IMAGE_SIZE, NUM_CLASSES, is_file, with_retries
from lockstep.data.images.idx import IdxFile
from lockstep.data.images.image_store import ImageFiles
from lockstep.errors import ConfigError

Fetcher = Callable[[Path, float], None]
"""Writes all files of a data set into a folder, within a number of seconds; raises OSError, ValueError or
subprocess.SubprocessError if it cannot."""


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A data set in torchvision's layout. It is read without torchvision, whose import takes longer."""

    folder: str
    """Where its files are kept, relative to data.root."""
    files: tuple[str, ...]
    """The names of four files: training images, training labels, test images, test labels."""
    fetchers: Mapping[str, Fetcher]
    """Where the files can be fetched from → what does so, in the order in which they are tried."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """File name → SHA-256 of its content, where that is known."""
    is_transposed: bool = False
    """Whether the files hold each image with rows and columns swapped."""

    def paths(self, root: Path) -> list[Path]:
        """The four files, whether they exist or not."""
        return [root / self.folder / name for name in self.files]

    def missing_files(self, root: Path) -> list[Path]:
        """The files that do not exist.

        Raises:
            ConfigError: nobody knows, as a folder cannot be looked into.
        """
        return [path for path in self.paths(root) if not is_file(path)]

    def open(self, root: Path, seed: int) -> tuple[ImageFiles, ImageFiles]:
        """The training and the test images, after a check of all files. They do not depend on the seed.

        Raises:
            OSError: a file cannot be read.
            ConfigError: a file does not have the content that it should have.
        """
        train_images, train_labels, test_images, test_labels = self.paths(root)
        return self._open_split(train_images, train_labels), self._open_split(test_images, test_labels)

    def check_content(self, path: Path, content: Path) -> None:
        """Refuses a file whose SHA-256 is known and different.

        Args:
            path: where the file belongs.
            content: where it is now.

        Raises:
            ConfigError: names the file and both digests.
        """
        if path.name not in self.sha256:
            return
        digest = with_retries(content, lambda: file_digest(content))
        expected = self.sha256[path.name]
        if digest != expected:
            raise ConfigError(
                f"data.root: {path} has the wrong content (SHA-256 {digest[:12]}…, expected "
                f"{expected[:12]}…); delete it and start again to fetch it"
            )

    def _open_split(self, images_path: Path, labels_path: Path) -> ImageFiles:
        images, labels = self._open_file(images_path), self._open_file(labels_path)
        if images.shape != (len(labels), IMAGE_SIZE, IMAGE_SIZE):
            raise ConfigError(
                f"data.root: {images_path} has shape {images.shape} and {labels_path.name} {labels.shape}; "
                f"there must be one label for each image of {IMAGE_SIZE} x {IMAGE_SIZE} pixels; "
                "delete both and start again to fetch them"
            )
        opened = ImageFiles(images=images, labels=labels, count=len(labels), is_transposed=self.is_transposed)
        digits = opened.all_labels()
        (wrong,) = ((digits < 0) | (digits >= NUM_CLASSES)).nonzero()
        if len(wrong):
            raise ConfigError(
                f"data.root: {labels_path} has label {digits[wrong[0]]} for image {wrong[0]}; labels must be "
                f"0 to {NUM_CLASSES - 1}: renumber them, or put the images into a folder per class and use "
                "--data.name folder:PATH"
            )
        return opened

    def _open_file(self, path: Path) -> IdxFile:
        self.check_content(path, path)
        try:
            return IdxFile.open(path)
        except ValueError as error:
            raise ConfigError(
                f"data.root: {path} is damaged ({error}); delete it and start again to fetch it"
            ) from error


def file_digest(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
