"""Several runs as a table: the settings in which they differ, and their results. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.report.text_table import text_table
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
"""Heading → (key of `run_results`, format). `seconds` are seconds of training, over all starts."""


def comparison_of(folders: dict[str, Path]) -> str:
    """The table of runs, name → folder, one line for each."""
    settings = {name: saved_identity(read_settings(folder)) for name, folder in folders.items()}
    varied = [
        setting
        for setting in next(iter(settings.values()), {})
        if len({str(values[setting]) for values in settings.values()}) > 1
    ]
    rows = []
    for name, folder in folders.items():
        results = run_results(folder)
        cells = [
            template.format(results[key]) if key in results else "-" for key, template in COLUMNS.values()
        ]
        rows.append([name, *(str(settings[name][setting]) for setting in varied), *cells])
    return text_table(["run", *varied, *COLUMNS], rows)


def most_accurate_first(folders: dict[str, Path]) -> dict[str, Path]:
    """The runs with the highest test accuracy first, and those without one last."""
    names = sorted(folders, key=lambda name: -run_results(folders[name]).get("test_accuracy", -1.0))
    return {name: folders[name] for name in names}


def run_results(folder: Path) -> dict[str, Any]:
    """The summary of a finished run; of any other run, the same keys as far as its files have them."""
    summary = read_summary(folder)
    if summary is not None:
        return {"state": "finished", **summary}
    starts, records = read_starts(folder), read_metrics(folder)
    tests = [record for record in records if "test_accuracy" in record]
    results: dict[str, Any] = {"state": "unfinished", "steps": 0, "samples_seen": 0}
    if starts:
        results |= {key: starts[-1][key] for key in ("world_size", "device")}
    if tests:
        results |= {key: tests[-1][key] for key in ("test_accuracy", "test_loss")}
        results["best_test_accuracy"] = max(record["test_accuracy"] for record in tests)
    if records:
        results |= {"steps": records[-1]["step"], "samples_seen": records[-1]["samples_seen"]}
    return results
