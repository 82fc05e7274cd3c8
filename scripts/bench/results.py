"""The rows of a benchmark: their statistics and their tables in docs/benchmarks.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a result."""

    what: str
    value: float | None
    """None: not measured; `what` says why."""
    unit: str = ""
    quartiles: tuple[float, float] | None = None
    n: int = 1
    """Number of samples behind the value."""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        """The target and whether it is met; empty if there is none."""
        sign, limit = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        if limit is None:
            return ""
        if self.value is None:
            return f"{sign} {limit:g}"
        is_met = self.value <= limit if sign == "≤" else self.value >= limit
        return f"{sign} {limit:g}: {'met' if is_met else '**missed**'}"


def median_row(
    what: str,
    samples: list[float],
    unit: str = "",
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """The median and quartiles of at least two samples."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Row(
        what=what,
        value=median,
        unit=unit,
        quartiles=(low, high),
        n=len(samples),
        at_most=at_most,
        at_least=at_least,
    )


def ratio(
    what: str,
    numerators: list[float],
    denominators: list[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """The median of the ratios of paired rounds: whatever slows the machine down slows both of a pair."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return median_row(what, ratios, at_most=at_most, at_least=at_least)


def publish(name: str, device_type: str, result: dict[str, Any], folder: Path) -> None:
    """Stores a result in benchmarks.json and rewrites its section of benchmarks.md.

    Raises:
        ValueError: the page has no section for it.
    """
    results_file, page_file = folder / "benchmarks.json", folder / "benchmarks.md"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    results.setdefault(name, {})[device_type] = result
    begin, end = f"<!-- {name}: made by its program -->", f"<!-- {name}: end -->"
    before, has_begin, rest = page_file.read_text().partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise ValueError(f"{page_file}: must have {begin} and then {end}")
    tables = [as_table(results[name][kind]) for kind in sorted(results[name])]
    if "cuda" not in results[name]:
        tables.append("On a GPU: not measured.")
    page_file.write_text(f"{before}{begin}\n" + "\n\n".join(tables) + f"\n{end}{after}")
    whole = results_file.with_suffix(".json.new")  # a program that is cut off leaves the old results
    whole.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    whole.replace(results_file)


def as_table(result: Mapping[str, Any]) -> str:
    """A result as Markdown: what it was measured on, then a table with one line per row."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"`{result['command']}`, {result['device']}, cores: {result['cores']}, threads: {result['threads']}, "
        f"{versions}, commit {result['commit']}, {result['date']}, load at the start {result['load']}:",
        "",
        "| what | value | quartiles | n | target |",
        "|---|---|---|---|---|",
    ]
    for values in result["rows"]:
        row = Row(**values)
        value = "not measured" if row.value is None else f"{shown(row.value)} {row.unit}".rstrip()
        spread = " to ".join(shown(quartile) for quartile in row.quartiles or ())
        lines.append(f"| {row.what} | {value} | {spread} | {row.n} | {row.target} |")
    return "\n".join(lines)


def shown(value: float) -> str:
    """A number with four significant digits, or as a whole number from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")
