"""What `lockstep explain` found out about a step, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.report import text_table

FORMULA_TEXTS = {
    "sgd": "θ - η·v, v = μ·v + ∇θ + λ·θ, in float32",
    "adam": "θ - η·m̂/(√v̂ + ε) with λ·θ added to ∇θ, in float64",
    "adamw": "(1 - η·λ)·θ - η·m̂/(√v̂ + ε), in float64",
}


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
            *text_table(HEADER, [_cells(row, self.optimizer) for row in self.rows], left=WORDS).splitlines(),
            "",
            "clipped: ‖∇θ‖ as the optimizer got it",
            f"off formula: the largest difference of the new θ from {FORMULA_TEXTS[self.optimizer]},",
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
WORDS = (HEADER.index("parameter"), HEADER.index("shape"), HEADER.index("group"), HEADER.index("status"))
"""The columns of words, aligned to the left."""


def _cells(row: Row, optimizer: str) -> tuple[str, ...]:
    if row.off_formula is None:
        off = "-"
    elif row.off_formula == 0 and optimizer == "sgd":
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
