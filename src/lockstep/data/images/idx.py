"""The IDX file format of MNIST: a big-endian header (type, rank, sizes), then the numbers."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lockstep.config import with_retries

DTYPES: dict[int, np.dtype] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}
"""Code in the header → type of the numbers. Only the types that the data sets use."""


@dataclass(frozen=True, kw_only=True)
class IdxFile:
    """An array on disk. Rows are read on demand and not kept."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]

    @classmethod
    def open(cls, path: Path) -> IdxFile:
        """Reads the header of a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not such a header, or the file does not have the length that it states.
        """
        return with_retries(path, lambda: cls._open(path))

    @classmethod
    def _open(cls, path: Path) -> IdxFile:
        with path.open("rb") as file:
            magic = file.read(4)
            if not is_idx(magic) or not magic[3]:
                raise ValueError("not an IDX file of bytes or 32-bit integers")
            sizes = file.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise ValueError("the IDX header is cut short")
        opened = cls(path=path, dtype=DTYPES[magic[2]], shape=struct.unpack(f">{magic[3]}I", sizes))
        num_bytes = path.stat().st_size - opened._header_bytes
        if num_bytes != len(opened) * opened._row_bytes:
            raise ValueError(f"the IDX header says {opened.shape}, but {num_bytes} bytes follow it")
        return opened

    def __len__(self) -> int:
        return self.shape[0]

    def first(self, count: int) -> NDArray:
        """The first `count` rows, (count, ...).

        Raises:
            OSError: the file cannot be read, or has become shorter.
        """
        numbers = np.empty((count, *self.shape[1:]), self.dtype)

        def read() -> int:
            with self.path.open("rb") as file:
                file.seek(self._header_bytes)
                return file.readinto(numbers.view(np.uint8).data)  # np.fromfile hides an error in reading

        self._check_length(with_retries(self.path, read), numbers.nbytes)
        return numbers

    def rows(self, indices: NDArray[np.int64]) -> NDArray:
        """The rows at some indices (rows,), shape (rows, ...).

        They are read one by one, at about 1 µs each. Mapping the file into memory would count its pages as
        this process's own, and a read error under a mapping kills the process without a message.

        Raises:
            OSError: the file cannot be read, or has become shorter.
        """
        size, offsets = self._row_bytes, self._header_bytes + indices * self._row_bytes

        def read() -> bytearray:
            with self.path.open("rb", buffering=0) as file:
                descriptor = file.fileno()
                return bytearray().join([os.pread(descriptor, size, offset) for offset in offsets.tolist()])

        content = with_retries(self.path, read)
        self._check_length(len(content), size * len(indices))
        return np.frombuffer(content, self.dtype).reshape(len(indices), *self.shape[1:])

    def _check_length(self, num_bytes: int, expected: int) -> None:
        if num_bytes < expected:
            raise OSError(f"{self.path} has become shorter while it was in use")

    @property
    def _header_bytes(self) -> int:
        return 4 + 4 * len(self.shape)

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def is_idx(magic: bytes) -> bool:
    """Whether a file begins like an IDX file of a known type. Images may begin with two zero bytes too."""
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in DTYPES


def encode_idx(array: NDArray[np.uint8]) -> bytes:
    """The IDX file of an array of unsigned bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array).tobytes()
