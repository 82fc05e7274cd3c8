"""Digests of what a data set holds, beyond the few samples by which every set is known: cheap, but not free.

A resume compares those that it and the start before both have; see `Samples.content`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lockstep.config import unreadable, with_retries
from lockstep.data.reading.sample_trees import add_value
from lockstep.launch import num_cores
from lockstep.plan import SampleOrder

CHUNK_BYTES = 2**24
"""What is copied from a device, and added to a digest, at a time."""
CHUNK_FILES = 1000
"""Files that one thread looks at together: a thread's work costs as much as a look at ten files."""
NUM_SPREAD = 48
"""Samples, spread by a key, that are read besides the 16 evenly spread ones: 64 in all."""


def rows_digest(*columns: Tensor) -> str:
    """The SHA-256 of all bytes of tensors that have a row for each sample: 1.5 GB a second on each core."""

    def digest(start: int) -> bytes:
        part = hashlib.sha256()
        for column in columns:
            add_value(part, column[start : start + num_rows])
        return part.digest()

    row_bytes = sum(column[:1].nbytes for column in columns)
    num_rows = max(1, CHUNK_BYTES // max(1, row_bytes))
    return _joined(digest, range(0, len(columns[0]), num_rows))


def files_digest(paths: Sequence[str], folder: str) -> str:
    """The SHA-256 of the names, below a folder, and sizes of files: 10 000 in 50 ms on a local disk.

    Raises:
        ConfigError: one of them cannot be found.
    """

    def digest(start: int) -> bytes:
        part = hashlib.sha256()
        chunk = paths[start : start + CHUNK_FILES]
        sizes = with_retries(Path(folder), lambda: [os.stat(path).st_size for path in chunk])
        for path, size in zip(chunk, sizes, strict=True):
            part.update(f"{path.removeprefix(folder)}\0{size}\0".encode(errors="surrogateescape"))
        return part.digest()

    try:
        return _joined(digest, range(0, len(paths), CHUNK_FILES))
    except OSError as error:
        raise unreadable(error) from error


def samples_digest(num_samples: int, others: Iterable[int], sample: Callable[[int], Any]) -> str:
    """The SHA-256 of samples spread by a key, without some others that are known by another digest."""
    known = set(others)
    places = np.arange(min(num_samples, NUM_SPREAD + len(known)))
    spread = SampleOrder(seed=0, epoch=0, num_samples=num_samples)[places].tolist()
    part = hashlib.sha256()
    for index in [each for each in spread if each not in known][:NUM_SPREAD]:
        add_value(part, sample(index))
    return part.hexdigest()


def _joined(digest: Callable[[int], bytes], starts: range) -> str:
    """The SHA-256 of the digests of parts, which several threads find."""
    whole = hashlib.sha256()
    with ThreadPoolExecutor(num_cores()) as pool:
        for part in pool.map(digest, starts):
            whole.update(part)
    return whole.hexdigest()
