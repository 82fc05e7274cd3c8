"""What takes the records of a run, and the run folder's own file of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Protocol

from lockstep.runs.files import METRICS_FILE, Record, read_metrics, write_atomically

Status = Literal["finished", "interrupted", "failed"]
"""How a start of a run ended."""


class Sink(Protocol):
    """Something on the main rank that takes records, in the order of their steps."""

    def log(self, record: Record) -> None: ...

    def close(self, status: Status, reason: str = "") -> None:
        """Takes how this start ended; where it failed, also why."""


class MetricsFile:
    """One JSON object a line; what was logged after a resume's step is cut off, as it will come again."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        self.path = folder / METRICS_FILE
        kept = [record for record in read_metrics(folder) if record["step"] <= resume_step]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self.path.open("a")

    def log(self, record: Record) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()  # a killed run keeps every record that it made

    def close(self, status: Status, reason: str = "") -> None:
        self._file.close()
