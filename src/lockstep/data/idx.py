"""The IDX file format of MNIST: a big-endian header (type, rank, sizes), then the bytes."""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 0x08


def decode_idx(content: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes.

    Raises:
        ValueError: the header is not that of such a file, or the length is not what it says.
    """
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTE)):
        raise ValueError("not an IDX file of unsigned bytes")
    num_dims = content[3]
    shape = struct.unpack_from(f">{num_dims}I", content, 4)
    header_bytes = 4 + 4 * num_dims
    if len(content) != header_bytes + math.prod(shape):
        raise ValueError(f"IDX header says {shape}, but {len(content) - header_bytes} bytes follow it")
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)


def encode_idx(array: NDArray[np.uint8]) -> bytes:
    """The IDX file of an array of unsigned bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array).tobytes()
