"""What `lockstep explain` found out about a step, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.engine import OPTIMIZERS


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a step did to one parameter. Norms are Euclidean; `None` is what there was not."""

    name: str
    shape: tuple[int, ...]
    group: str
    """The parameter group's name; empty for what no group names."""
    norm: float
    """‖θ‖ before the step."""
    gradient_norm: float | None
    """‖∇θ‖ of the global batch, before clipping."""
    clipped_norm: float | None
    """‖∇θ‖ as the optimizer got it."""
    update_norm: float
    """‖Δθ‖"""
    off_formula: float | None
    """The largest difference from the optimizer's formula, in units in the last place of θ."""
    status: str
    """updated, unchanged, or frozen."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What happened in one step."""

    title: str
    traces: list[tuple[str, str]]
    """Of each rank the events on one line, and where they break the order (empty: nowhere)."""
    optimizer: str
    rows: list[Row]
    facts: list[str]

    def text(self) -> str:
        """All of it, as it is printed."""
        parts = [
            self.title,
            "",
            "order of events, as they happened",
            *self._order_lines(),
            "",
            *_table([HEADER, *map(_cells, self.rows)]),
            "",
            "clipped: ‖∇θ‖ as the optimizer got it",
            f"off formula: the largest difference of the new θ from {OPTIMIZERS[self.optimizer].text},",
            "  in units in the last place of θ's largest entry (a correct rounding is up to 0.5 ulp)",
            "",
            "what to look at (over the global batch, before the update)",
            *(f"  {fact}" for fact in self.facts),
        ]
        return "\n".join(parts)

    def _order_lines(self) -> list[str]:
        """One line for all ranks that did the same."""
        lines = []
        for trace, violation in dict.fromkeys(self.traces):
            ranks = [str(rank) for rank, entry in enumerate(self.traces) if entry == (trace, violation)]
            who = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(ranks)}"
            lines.append(f"  {who}: {trace}")
            verdict = f"BREAKS the order: {violation}" if violation else "checked: as the design demands"
            lines.append(f"    {verdict}")
        return lines


HEADER = (
    *("parameter", "shape", "group", "‖θ‖", "‖∇θ‖", "clipped", "‖Δθ‖", "‖Δθ‖/‖θ‖", "off formula", "status"),
)


def _cells(row: Row) -> tuple[str, ...]:
    if row.off_formula is None:
        off = "-"
    elif row.off_formula == 0:
        off = "same bits"
    else:
        off = f"{row.off_formula:.2f} ulp"
    return (
        row.name,
        " x ".join(str(size) for size in row.shape),
        row.group or "-",
        _number(row.norm),
        _number(row.gradient_norm),
        _number(row.clipped_norm),
        _number(row.update_norm),
        _number(row.update_norm / row.norm if row.norm else None),
        off,
        row.status,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned columns: words to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    words = {0, 1, 2, len(widths) - 1}
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
