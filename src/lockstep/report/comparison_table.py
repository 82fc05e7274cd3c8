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

MAX_TURNED = 6
"""Up to so many runs can stand beside each other, as they have more settings and results than that."""

NUM_BEFORE_SCORES = 2
"""Columns in front of those of the headline values."""


def comparison_of(folders: dict[str, Path], num_columns: int | None = None) -> str:
    """The table of runs, name → folder, one line for each.

    A table of few runs that is wider than a terminal's number of columns has a column for each run instead.
    """
    header, rows = comparison_cells(folders)
    table = text_table(header, rows)
    if num_columns and len(rows) <= MAX_TURNED and len(table.partition("\n")[0]) > num_columns:
        return text_table(*turned(header, rows))
    return table


def turned(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The headings and rows of a table with rows and columns swapped."""
    names, *values = (list(cells) for cells in zip(header, *rows, strict=True))
    return names, values


def comparison_cells(folders: dict[str, Path]) -> tuple[list[str], list[list[str]]]:
    """The headings of that table, and the cells of each line."""
    trees = {name: read_settings(folder) for name, folder in folders.items()}
    settings = {name: saved_identity(tree) if tree else {} for name, tree in trees.items()}
    known = [values for values in settings.values() if values]
    varied = [
        setting for setting in next(iter(known), {}) if len({str(values[setting]) for values in known}) > 1
    ]
    headlines = dict.fromkeys(read_task_facts(folder).headline for folder in folders.values())
    results_of = {name: run_results(folder) for name, folder in folders.items()}
    has_validation = any(is_selected(results) for results in results_of.values())
    kinds = {"validation": "validation", "best validation": "best_validation", "test": "test"}
    kinds |= {"best test": "best_test"}
    scores = {
        f"{which} {name}": f"{key}_{name}"
        for name in headlines
        for which, key in kinds.items()
        if (key == "test" and name != LOSS) or (key != "test" and has_validation)
    }
    rows = []
    for name, results in results_of.items():
        cells = [
            template.format(results[key]) if results.get(key) is not None else "-"
            for key, template in COLUMNS.values()
        ]
        cells[NUM_BEFORE_SCORES:NUM_BEFORE_SCORES] = [shown(key, results.get(key)) for key in scores.values()]
        rows.append([name, *(_cell(settings[name].get(setting)) for setting in varied), *cells])
    headings = list(COLUMNS)
    headings[NUM_BEFORE_SCORES:NUM_BEFORE_SCORES] = list(scores)
    return ["run", *varied, *headings], rows


def _cell(value: object) -> str:
    """A setting as text; '-' without one."""
    return "-" if value in (None, "") else str(value)


def is_selected(results: dict[str, Any]) -> bool:
    """Whether a run has a validation set, so that its best weights were not chosen by the test set."""
    return any(name.startswith("best_validation_") for name in results)


def best_first(folders: dict[str, Path]) -> dict[str, Path]:
    """The runs with the best headline value first, and those without one last.

    If all have a validation set, it is the best value on that; else the last one on the test set.
    """
    results_of = {name: run_results(folder) for name, folder in folders.items()}
    key = "best_validation" if all(map(is_selected, results_of.values())) else "test"

    def score(name: str) -> float:
        facts = read_task_facts(folders[name])
        value = results_of[name].get(f"{key}_{facts.headline}")
        return -math.inf if value is None else facts.score(value)

    return {name: folders[name] for name in sorted(folders, key=score, reverse=True)}


def run_results(folder: Path) -> dict[str, Any]:
    """The summary of a finished run; of any other run, the same keys as far as its files have them."""
    summary = read_summary(folder)
    results: dict[str, Any]
    if summary is not None:
        results = {"state": "finished", **summary}
        if not is_selected(results):  # an older version took the best by the test set
            results = {name: value for name, value in results.items() if not name.startswith("best_")}
        return results
    starts, records, facts = read_starts(folder), read_metrics(folder), read_task_facts(folder)
    scored = {
        split: [record for record in records if f"{split}_{LOSS}" in record]
        for split in ("test", "validation")
    }
    results = {"state": "unfinished", "steps": 0, "samples_seen": 0}
    if starts:
        results |= {key: starts[-1].get(key) for key in ("world_size", "device")}
    for split, those in scored.items():
        if those:
            results |= {key: value for key, value in those[-1].items() if key.startswith(f"{split}_")}
    if scored["validation"]:
        name = f"validation_{facts.headline}"
        known = [each[name] for each in scored["validation"] if each.get(name) is not None]
        results[f"best_{name}"] = max(known, key=facts.score, default=None)
    if records:
        results |= {"steps": records[-1]["step"], "samples_seen": records[-1]["samples_seen"]}
    return results
