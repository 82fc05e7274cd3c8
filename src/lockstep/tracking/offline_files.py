"""What earlier starts left in W&B's own folder: the steps in its files, and their upload."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# A `.wandb` file is a LevelDB log after a header of 7 bytes: blocks of 32 KiB, chunks with a CRC (4 bytes),
# a length (2) and a type (1). wandb itself has a reader in its Go service only.
FILE_HEADER, BLOCK, CHUNK_HEADER = 7, 32768, 7
FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4
SYNC_SECONDS = 600  # for the files of one run folder


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file in their order, up to where a kill cut it short."""
    from wandb.proto import wandb_internal_pb2

    record_type: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]  # made when it is imported
    content, position, parts = path.read_bytes(), FILE_HEADER, b""
    while position + CHUNK_HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK_HEADER:
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        position += CHUNK_HEADER + length
        if position > len(content):
            return
        chunk = content[position - length : position]
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            record = record_type()
            record.ParseFromString(parts)
            yield record


def highest_step(folder: Path) -> int:
    """The newest step that W&B's files in a run folder hold; 0 where they hold none."""
    steps = [
        record.history.step.num
        for path in (folder / "wandb").glob("*run-*/run-*.wandb")
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]
    return max(steps, default=0)


def upload_offline_starts(folder: Path) -> None:
    """Has wandb upload what the offline starts of a run left, in their order: it appends to the same run.

    Where a start was online, the server may have some of the steps, and wandb would append them again: then
    nothing is uploaded here, and the steps come from the run folder's own records. A file that a kill left
    without any record is passed over, as wandb would stop at it. A failure is no error: what is missing comes
    from the records too.
    """
    if any((folder / "wandb").glob("run-*")):
        return
    pending = [
        str(path)
        for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
        if not path.with_name(f"{path.name}.synced").exists() and next(records(path), None) is not None
    ]
    if pending:
        command = [sys.executable, "-m", "wandb", "sync", *pending]
        with suppress(subprocess.SubprocessError):
            subprocess.run(command, check=False, capture_output=True, timeout=SYNC_SECONDS)
