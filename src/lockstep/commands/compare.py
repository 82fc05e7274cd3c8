"""`lockstep compare`: several runs in one picture and one table."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_USAGE, refuse, require
from lockstep.report import most_accurate_first, table
from lockstep.report.curves import draw_comparison
from lockstep.report.figures import save_figure
from lockstep.runs import read_metrics, recorded_run

HELP = """usage: lockstep compare RUN... [--output compare.png]

Print a table of the run folders RUN, the most accurate first: the settings in which they differ, and what
came of them. Draw their training loss and wrong test answers into one picture, over the samples seen: an axis
that runs of different batch sizes share. The picture is a PNG, PDF or SVG, as its name says.
"""
FORMATS = (".png", ".pdf", ".svg")


def compare(argv: list[str]) -> int:
    """Prints the table and writes the picture; the exit code."""
    output, words = take_option(argv, "--output")
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    path = Path(output or "compare.png")
    require(path.suffix in FORMATS, "--output", str(path), f"must end in one of {', '.join(FORMATS)}")
    folders = most_accurate_first(by_name([recorded_run(word) for word in words]))
    print(table(folders), end="")
    figure = draw_comparison({name: read_metrics(folder) for name, folder in folders.items()})
    try:
        save_figure(figure, path)
    except OSError as error:
        raise refuse("--output", str(path), f"cannot be written ({error.strerror}); name another") from error
    print(f"lockstep: wrote {path}")
    return 0


def by_name(folders: list[Path]) -> dict[str, Path]:
    """Run folders by their names, or by their paths where two have the same name."""
    names = {folder.resolve().name: folder for folder in folders}
    return names if len(names) == len(folders) else {str(folder): folder for folder in folders}
