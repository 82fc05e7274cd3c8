"""The `Sink` protocol, which other trainers call a callback or a logger, and the sink of metrics.jsonl.

The other sinks: report/progress.py (console), runs/evaluations.py and tracking/wandb_run.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Protocol

from lockstep.runs.files import METRICS_FILE, Record, read_metrics, write_atomically

Status = Literal["finished", "interrupted", "failed"]
"""How a start of a run ended."""


class Sink(Protocol):
    """Something on the main rank that takes the records of a run: a callback or logger of other trainers."""

    def log(self, record: Record) -> None:
        """Takes one record; they come in the order of their steps."""

    def close(self, status: Status, reason: str = "") -> None:
        """Called once, when this start of the run has ended; `reason` says why if it failed.

        If it raises, a warning is printed: it cannot make a finished run a failed one.
        """


class MetricsFile:
    """The sink of metrics.jsonl, one record per line. A resume drops later ones: they are computed again."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        self.path = folder / METRICS_FILE
        kept = [record for record in read_metrics(folder) if record["step"] <= resume_step]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self.path.open("a")

    def log(self, record: Record) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()  # so that a killed run keeps every record it made

    def close(self, status: Status, reason: str = "") -> None:
        self._file.close()
