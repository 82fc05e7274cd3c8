"""Reads a `.wandb` file with wandb's own record types: what the client would upload."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

# A LevelDB log after a header of 7 bytes: blocks of 32 KiB, chunks with a CRC (4), length (2) and type (1).
FILE_HEADER, BLOCK, CHUNK_HEADER = 7, 32768, 7
FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a file, in their order."""
    content, position, parts = path.read_bytes(), FILE_HEADER, b""
    while position + CHUNK_HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK_HEADER:
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        chunk = content[position + CHUNK_HEADER : position + CHUNK_HEADER + length]
        position += CHUNK_HEADER + length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


def read_wandb(path: Path) -> dict[str, Any]:
    """A file's run id, config, history (step → metrics) and exit code (None: the run was not closed)."""
    found: dict[str, Any] = {"id": "", "config": {}, "history": {}, "exit_code": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["id"] = record.run.run_id
            updates = record.run.config.update
            found["config"] |= {item.key: json.loads(item.value_json) for item in updates if item.key}
        elif kind == "history":
            items = {
                (item.key or ".".join(item.nested_key)): json.loads(item.value_json)
                for item in record.history.item
            }
            assert record.history.step.num not in found["history"], "a step was logged twice"
            found["history"][record.history.step.num] = items
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found
