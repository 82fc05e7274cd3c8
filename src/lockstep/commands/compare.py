"""`lockstep compare`: several runs in one picture and one table."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_USAGE, refuse, require
from lockstep.report import best_first, comparison_of
from lockstep.runs import read_metrics, read_task_facts, recorded_run

HELP = """usage: lockstep compare RUN... [--output compare.png]

Print a table of the run folders RUN, the best first: the settings in which they differ, and their
results. Draw their training loss and headline test values in one picture, over the training samples seen,
so that runs of different batch sizes can be compared. The picture's suffix sets its format: PNG, PDF or SVG.
"""
FORMATS = (".png", ".pdf", ".svg")


def compare(argv: list[str]) -> int:
    """Prints the table, writes the picture, and returns the exit code.

    Raises:
        ConfigError: a RUN is not a run folder with records, or the picture cannot be written.
    """
    output, words = take_option(argv, "--output")
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    path = Path(output or "compare.png")
    require(path.suffix in FORMATS, "--output", str(path), f"must end in one of {', '.join(FORMATS)}")
    folders = best_first(by_name([recorded_run(word) for word in words]))
    print(comparison_of(folders), end="")
    from lockstep.report.curves import draw_comparison  # imports matplotlib, which is slow
    from lockstep.report.figure_style import save_figure

    headline = read_task_facts(next(iter(folders.values()))).headline
    figure = draw_comparison({name: read_metrics(folder) for name, folder in folders.items()}, headline)
    try:
        save_figure(figure, path)
    except OSError as error:
        raise refuse(
            "--output", str(path), f"cannot be written ({error.strerror}); choose another path"
        ) from error
    print(f"lockstep: wrote {path}")
    return 0


def by_name(folders: list[Path]) -> dict[str, Path]:
    """Run folders by name, or by path if two of them have the same name."""
    names = {folder.resolve().name: folder for folder in folders}
    return names if len(names) == len(folders) else {str(folder): folder for folder in folders}
