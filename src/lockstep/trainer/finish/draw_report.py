"""The pictures that a start draws when it ends."""

from __future__ import annotations

from pathlib import Path

from lockstep.launch import imported_at_once
from lockstep.report import say
from lockstep.runs import read_metrics


def draw_report_or_warn(folder: Path) -> None:
    """Draws report/ from the run's files. A failed picture must not fail the run, so it is only a warning."""
    try:
        with imported_at_once():
            from lockstep.report.run_report import draw_report  # imports matplotlib, which is slow

        if read_metrics(folder):
            draw_report(folder)
    except Exception as error:
        say(f"warning: no pictures ({error}); to draw them, run: lockstep report {folder}")
