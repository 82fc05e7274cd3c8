"""The `Sink` protocol, which other trainers call a callback or a logger, and the sink of metrics.jsonl.

The other sinks: report/progress_bar.py (console), runs/saved_evaluations.py and tracking/upload/wandb_run.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from lockstep.runs.folder.disk import STOPPING, written
from lockstep.runs.folder.files import METRICS_FILE, to_json, write_atomically
from lockstep.runs.folder.set_aside import set_aside_text
from lockstep.runs.history.history import Record, read_metrics

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
    """The sink of metrics.jsonl, one record per line. A resume sets aside later ones."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        self.path = folder / METRICS_FILE
        records = read_metrics(folder)
        kept = [record for record in records if record["step"] <= resume_step]
        cut = [record for record in records if record["step"] > resume_step]
        if cut:
            set_aside_text(_json_lines(cut), METRICS_FILE, folder)
        write_atomically(self.path, _json_lines(kept))
        self._file = self.path.open("a")

    def log(self, record: Record) -> None:
        line = _json_lines([record])

        def write() -> None:
            self._file.write(line)
            self._file.flush()  # so that a killed run keeps every record it made

        written(self.path, len(line), write)

    def close(self, status: Status, reason: str = "") -> None:
        try:
            self._file.close()
        except OSError as error:  # what `log` could not write
            if error.errno not in STOPPING:
                raise


def _json_lines(records: list[Record]) -> str:
    return "".join(f"{to_json(record)}\n" for record in records)
