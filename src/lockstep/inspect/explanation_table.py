"""The result of `lockstep explain`, and its printed form."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.report import text_table


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a step did to one parameter. Norms are Euclidean; None means that there is none."""

    name: str
    shape: tuple[int, ...]
    group: str
    """Name of its parameter group; empty if it is in none."""
    norm: float
    """‖θ‖ before the step."""
    gradient_norm: float | None
    """‖∇θ‖ of the global batch, before clipping."""
    clipped_norm: float | None
    """‖∇θ‖ as passed to the optimizer."""
    update_norm: float
    """‖Δθ‖"""
    off_formula: float | None
    """The largest difference from the optimizer's formula, in units in the last place (ulp) of θ."""
    status: str
    """updated, unchanged, or frozen."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What one step did."""

    title: str
    traces: list[tuple[str, str]]
    """For each rank: the events on one line, and where they are out of order (empty: nowhere)."""
    formula: str
    """The optimizer's update in words; empty if Lockstep has no formula to check it against."""
    rows: list[Row]
    facts: list[str]

    def text(self) -> str:
        """The whole explanation as printed text."""
        parts = [
            self.title,
            "",
            "order of events, as observed",
            *self._order_lines(),
            "",
            *text_table(HEADER, [_cells(row) for row in self.rows], left=WORDS).splitlines(),
            "",
            "clipped: ‖∇θ‖ as passed to the optimizer",
            *self._formula_lines(),
            "",
            "key numbers (over the global batch, before the update)",
            *(f"  {fact}" for fact in self.facts),
        ]
        return "\n".join(parts)

    def _formula_lines(self) -> list[str]:
        if not self.formula:
            return ["off formula: not checked, as Lockstep has no formula of this optimizer"]
        return [
            f"off formula: the largest difference between the new θ and {self.formula},",
            "  in units in the last place (ulp) of θ's largest entry; each operation rounds by up to 0.5 ulp",
            f"    {self._formula_verdict()}",
        ]

    def _formula_verdict(self) -> str:
        off = [
            row.name for row in self.rows if row.off_formula is not None and not row.off_formula <= MAX_ULP
        ]
        if not any(row.off_formula is not None for row in self.rows):
            return "not checked: no update was made"
        if off:
            return f"OFF THE FORMULA by more than {MAX_ULP} ulp: {', '.join(off)}"
        return f"checked: within {MAX_ULP} ulp, as the formula says"

    def _order_lines(self) -> list[str]:
        """The events and the verdict, once for all ranks that agree."""
        lines = []
        for trace, violation in dict.fromkeys(self.traces):
            ranks = [str(rank) for rank, entry in enumerate(self.traces) if entry == (trace, violation)]
            lines.append(f"  {'rank' if len(ranks) == 1 else 'ranks'} {', '.join(ranks)}: {trace}")
            verdict = f"OUT OF ORDER: {violation}" if violation else "checked: in the expected order"
            lines.append(f"    {verdict}")
        return lines


MAX_ULP = 4
"""An update of Adam takes about eight operations in float32; another formula is off by far more."""
HEADER = (
    *("parameter", "shape", "group", "‖θ‖", "‖∇θ‖", "clipped", "‖Δθ‖", "‖Δθ‖/‖θ‖", "off formula", "status"),
)
WORDS = (HEADER.index("parameter"), HEADER.index("shape"), HEADER.index("group"), HEADER.index("status"))
"""The columns of words, aligned to the left."""


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
