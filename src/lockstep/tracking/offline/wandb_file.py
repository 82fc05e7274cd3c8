"""Reads `.wandb` files, in which the W&B client logs a run. Only its Go service has a reader of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The format is a LevelDB log (github.com/google/leveldb, doc/log_format.md) after a file header of 7 bytes.
# It is cut into blocks of 32 KiB, and these into chunks: CRC (4 bytes), length (2), type (1), data.
FILE_HEADER_BYTES, BLOCK_BYTES, CHUNK_HEADER_BYTES = 7, 32768, 7
FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4
"""Chunk types: a record is one full chunk, or a first, any number of middle ones and a last."""


def read_wandb_file(path: Path) -> Iterator[Any]:
    """The protobuf records of a `.wandb` file in order, as far as the file goes if a kill cut it short."""
    from wandb.proto import wandb_internal_pb2

    record_type: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]  # defined at run time
    data, position, pending = path.read_bytes(), FILE_HEADER_BYTES, b""
    while position + CHUNK_HEADER_BYTES <= len(data):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < CHUNK_HEADER_BYTES:
            position += left_in_block
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        chunk_type = data[position + 6]
        position += CHUNK_HEADER_BYTES + length
        if position > len(data):
            return
        chunk = data[position - length : position]
        pending = chunk if chunk_type in (FULL, FIRST) else pending + chunk
        if chunk_type in (FULL, LAST):
            record = record_type()
            record.ParseFromString(pending)
            yield record
