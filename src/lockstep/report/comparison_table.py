"""Several runs as a table: the settings in which they differ, and their results. No torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lockstep.report.numbers import shown
from lockstep.report.text_table import text_table
from lockstep.runs import (
    read_metrics,
    read_settings,
    read_starts,
    read_summary,
    read_task_facts,
    saved_identity,
)

LOSS = "loss"

COLUMNS = {
    "state": ("state", "{}"),
    "processes": ("world_size", "{}"),
    "test loss": ("test_loss", "{:.4f}"),
    "steps": ("steps", "{:,}"),
    "samples": ("samples_seen", "{:,}"),
    "seconds": ("train_seconds", "{:.1f}"),
    "device": ("device", "{}"),
}
"""Heading → (key of `run_results`, format). `seconds` are seconds of training, over all starts."""

NUM_BEFORE_SCORES = 2
"""Columns in front of those of the headline values."""


def comparison_of(folders: dict[str, Path]) -> str:
    """The table of runs, name → folder, one line for each."""
    trees = {name: read_settings(folder) for name, folder in folders.items()}
    settings = {name: saved_identity(tree) if tree else {} for name, tree in trees.items()}
    known = [values for values in settings.values() if values]
    varied = [
        setting for setting in next(iter(known), {}) if len({str(values[setting]) for values in known}) > 1
    ]
    headlines = dict.fromkeys(read_task_facts(folder).headline for folder in folders.values())
    scores = {
        f"{which} {name}": f"{key}_{name}"
        for name in headlines
        for which, key in (("test", "test"), ("best", "best_test"))
        if name != LOSS or which == "best"
    }
    rows = []
    for name, folder in folders.items():
        results = run_results(folder)
        cells = [
            template.format(results[key]) if results.get(key) is not None else "-"
            for key, template in COLUMNS.values()
        ]
        cells[NUM_BEFORE_SCORES:NUM_BEFORE_SCORES] = [shown(key, results.get(key)) for key in scores.values()]
        rows.append([name, *(str(settings[name].get(setting, "-")) for setting in varied), *cells])
    headings = list(COLUMNS)
    headings[NUM_BEFORE_SCORES:NUM_BEFORE_SCORES] = list(scores)
    return text_table(["run", *varied, *headings], rows)


def best_first(folders: dict[str, Path]) -> dict[str, Path]:
    """The runs with the best last headline value first, and those without one last."""

    def score(name: str) -> float:
        facts, results = read_task_facts(folders[name]), run_results(folders[name])
        value = results.get(f"test_{facts.headline}")
        return -math.inf if value is None else facts.score(value)

    return {name: folders[name] for name in sorted(folders, key=score, reverse=True)}


def run_results(folder: Path) -> dict[str, Any]:
    """The summary of a finished run; of any other run, the same keys as far as its files have them."""
    summary = read_summary(folder)
    if summary is not None:
        return {"state": "finished", **summary}
    starts, records, facts = read_starts(folder), read_metrics(folder), read_task_facts(folder)
    tests = [record for record in records if "test_loss" in record]
    results: dict[str, Any] = {"state": "unfinished", "steps": 0, "samples_seen": 0}
    if starts:
        results |= {key: starts[-1].get(key) for key in ("world_size", "device")}
    if tests:
        results |= {key: value for key, value in tests[-1].items() if key.startswith("test_")}
        values = [test.get(f"test_{facts.headline}") for test in tests]
        known = [value for value in values if value is not None]
        results[facts.best_key] = max(known, key=facts.score, default=None)
    if records:
        results |= {"steps": records[-1]["step"], "samples_seen": records[-1]["samples_seen"]}
    return results
