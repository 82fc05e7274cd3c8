"""The comparison of runs as one HTML file. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lockstep.report.comparison_table import MAX_TURNED, comparison_cells, turned
from lockstep.report.html.html_figures import comparison
from lockstep.report.html.html_page import drawn, page, table
from lockstep.runs import read_metrics, read_task_facts, write_atomically


def write_html_comparison(folders: Mapping[str, Path], path: Path) -> None:
    """Writes the comparison of runs, name → folder, as one page."""
    header, rows = comparison_cells(dict(folders))
    if len(rows) <= MAX_TURNED:
        header, rows = turned(header, rows)
    headline = read_task_facts(next(iter(folders.values()))).headline
    figure = comparison({name: read_metrics(folder) for name, folder in folders.items()}, headline)
    write_atomically(path, page("Comparison of runs", [table(header, rows), drawn(figure)]))
