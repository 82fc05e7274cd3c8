"""From a user's words to images: files, folders, IDX, npz and parquet files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lockstep.config import error_text, is_file, is_folder, with_retries
from lockstep.data.images.idx import IdxFile, is_idx
from lockstep.data.prediction.pictures import (
    ArrayPictures,
    IdxPictures,
    ParquetPictures,
    PictureFile,
    Pictures,
    PictureSource,
    rows_of,
)
from lockstep.data.sources.huggingface_sets import import_datasets
from lockstep.data.sources.image_folder import files_below
from lockstep.errors import ConfigError, refuse, require

IMAGES = "images"
"""Which array of an npz file is meant, if it has several."""


def find_pictures(words: Sequence[str], *, is_transposed: bool = False) -> Pictures:
    """What a user's words name: a file, or a folder, whose image files in it and below are meant.

    A file that is damaged counts as one image that cannot be read.

    Args:
        words: paths.
        is_transposed: whether IDX files hold each image with rows and columns swapped.

    Raises:
        ConfigError: a path does not exist, a folder has no images, or what is needed to read it is missing.
    """
    sources: list[PictureSource] = []
    for path in map(Path, words):
        if is_folder(path):
            files = image_files(path)
            rule = "holds no image files; name files, or a folder that holds some"
            require(bool(files), "WHAT", str(path), rule)
            sources += [PictureFile(path=file) for file in files]
        else:
            require(is_file(path), "WHAT", str(path), "there is no such file or folder")
            sources.append(_source(path, is_transposed))
    return Pictures(sources=sources)


def find_files(words: Sequence[str]) -> list[Path]:
    """The files that a user's words name; of a folder all in it and below, without hidden ones.

    Raises:
        ConfigError: a path does not exist, or a folder has no files.
    """
    files: list[Path] = []
    for path in map(Path, words):
        is_whole = is_folder(path)
        require(is_whole or is_file(path), "WHAT", str(path), "there is no such file or folder")
        inside = map(Path, files_below(path, "WHAT") if is_whole else ())
        named = sorted(inside) if is_whole else [path]
        require(bool(named), "WHAT", str(path), "holds no files; name files, or a folder that holds some")
        files += named
    return files


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and below, in the order of their paths, without hidden ones."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    inside = map(Path, files_below(folder, "WHAT"))
    return sorted(path for path in inside if path.suffix.lower() in IMG_EXTENSIONS)


def _source(path: Path, is_transposed: bool) -> PictureSource:
    try:
        return with_retries(path, lambda: _opened(path, is_transposed))
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = error_text(error) if isinstance(error, OSError) else str(error)
        return PictureFile(path=path, damage=" ".join(reason.split()) or type(error).__name__)


def _opened(path: Path, is_transposed: bool) -> PictureSource:
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix == ".parquet":
        return _parquet(path)
    with path.open("rb") as file:
        magic = file.read(4)
    return _idx(path, is_transposed) if is_idx(magic) else PictureFile(path=path)


def _idx(path: Path, is_transposed: bool) -> PictureSource:
    file = IdxFile.open(path)
    if len(file.shape) != 3 or file.dtype != np.uint8:
        raise ValueError(f"holds {file.dtype} {file.shape}, not images (samples, height, width)")
    return IdxPictures(file=file, is_transposed=is_transposed)


def _npz(path: Path) -> PictureSource:
    # Opened here: of a damaged file, np.load would leave closing it to the garbage collector.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    shaped = [key for key, array in arrays.items() if array.dtype == np.uint8 and array.ndim in (3, 4)]
    if not shaped:
        shown = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items())
        raise ValueError(f"holds no images, uint8 (samples, height, width) or with channels, but {shown}")
    rule = f"has several arrays of images, {', '.join(shaped)}; keep one, or name it {IMAGES!r}"
    require(len(shaped) == 1 or IMAGES in shaped, "WHAT", str(path), rule)
    key = shaped[0] if len(shaped) == 1 else IMAGES
    return ArrayPictures(path=path, key=key, count=len(arrays[key]))


def _parquet(path: Path) -> PictureSource:
    datasets = import_datasets("WHAT", str(path))
    try:
        rows = rows_of(path)
    except OSError:
        raise
    except Exception as error:  # the package's own errors have no class in common
        raise ValueError(str(error)) from error
    image_columns = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if not image_columns:
        columns = ", ".join(rows.features)
        rule = f"has no column of images, encoded or of the type Image; its columns are {columns}"
        raise refuse("WHAT", str(path), rule)
    rule = f"has several columns of images, {', '.join(image_columns)}; keep one"
    require(len(image_columns) == 1, "WHAT", str(path), rule)
    return ParquetPictures(path=path, column=image_columns[0], count=len(rows))
