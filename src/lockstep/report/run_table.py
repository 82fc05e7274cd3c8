"""Several runs as a table: the settings in which they differ, and what came of them. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.runs import read_metrics, read_settings, read_starts, read_summary, saved_identity

COLUMNS = {
    "state": ("state", "{}"),
    "processes": ("world_size", "{}"),
    "test accuracy": ("test_accuracy", "{:.2%}"),
    "best accuracy": ("best_test_accuracy", "{:.2%}"),
    "test loss": ("test_loss", "{:.4f}"),
    "steps": ("steps", "{:,}"),
    "samples": ("samples_seen", "{:,}"),
    "seconds": ("train_seconds", "{:.1f}"),
    "device": ("device", "{}"),
}
"""Heading → (key of the outcome, format). `seconds` are those of training, over all starts."""


def table(folders: dict[str, Path]) -> str:
    """A line for each run, name → folder, in columns."""
    settings = {name: saved_identity(read_settings(folder)) for name, folder in folders.items()}
    varied = [
        leaf
        for leaf in next(iter(settings.values()), {})
        if len({str(values[leaf]) for values in settings.values()}) > 1
    ]
    results = {name: outcome(folder) for name, folder in folders.items()}
    rows = [["run", *varied, *COLUMNS]]
    for name in folders:
        cells = [
            form.format(results[name][key]) if key in results[name] else "-" for key, form in COLUMNS.values()
        ]
        rows.append([name, *(str(settings[name][leaf]) for leaf in varied), *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join(lines) + "\n"


def most_accurate_first(folders: dict[str, Path]) -> dict[str, Path]:
    """The runs with the highest test accuracy first, and those without one last."""
    names = sorted(folders, key=lambda name: -outcome(folders[name]).get("test_accuracy", -1.0))
    return {name: folders[name] for name in names}


def outcome(folder: Path) -> dict[str, Any]:
    """The summary of a finished run; of another one, what its starts and records tell under the same keys."""
    summary = read_summary(folder)
    if summary is not None:
        return {"state": "finished", **summary}
    starts, records = read_starts(folder), read_metrics(folder)
    tests = [record for record in records if "test_accuracy" in record]
    known: dict[str, Any] = {"state": "unfinished", "steps": 0, "samples_seen": 0}
    if starts:
        known |= {key: starts[-1][key] for key in ("world_size", "device")}
    if tests:
        known |= {key: tests[-1][key] for key in ("test_accuracy", "test_loss")}
        known["best_test_accuracy"] = max(record["test_accuracy"] for record in tests)
    if records:
        known |= {"steps": records[-1]["step"], "samples_seen": records[-1]["samples_seen"]}
    return known
