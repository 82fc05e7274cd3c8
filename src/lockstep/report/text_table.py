"""A table as plain text that people, pipes and files can take: aligned columns, no boxes, no colours."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

WIDTH = 100_000
"""Characters per line, wider than any table: rich neither wraps nor shortens a cell."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Cells in aligned columns, two spaces apart.

    Args:
        header: the heading of each column.
        rows: the cells of each row.
        left: which columns are aligned to the left, as words are; numbers are aligned to the right.
    """
    # Imported here: only a command that prints a table should wait for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(header):
        table.add_column(Text(heading), justify="left" if index in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text, as a run may be named '[bold]' or ':smile:'
    file = io.StringIO()
    Console(file=file, width=WIDTH, color_system=None, force_terminal=False).print(table)
    return "".join(line.rstrip() + "\n" for line in file.getvalue().splitlines())
