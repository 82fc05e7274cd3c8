"""`lockstep compare`: several runs in one picture and one table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_USAGE, refuse, require
from lockstep.report import best_first, check_plotly, comparison_of
from lockstep.runs import read_metrics, read_task_facts, recorded_run

HELP = """usage: lockstep compare RUN... [--output compare.png] [--html compare.html]

Print a table of the run folders RUN, the best first: the settings in which they differ, and their
results. Draw their training loss and headline test values in one picture, over the training samples seen,
so that runs of different batch sizes can be compared. The picture's suffix sets its format: PNG, PDF or SVG.
  --html FILE  also write table and curves, which one can hover over, into one file to send; needs
               pip install lockstep-trainer[report]
"""
FORMATS = (".png", ".pdf", ".svg")


def compare(argv: list[str]) -> int:
    """Prints the table, writes the picture, and returns the exit code.

    Raises:
        ConfigError: a RUN is not a run folder with records, or the picture cannot be written.
    """
    output, words = take_option(argv, "--output")
    html_file, words = take_option(words, "--html")
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    path = Path(output or "compare.png")
    require(path.suffix in FORMATS, "--output", str(path), f"must end in one of {', '.join(FORMATS)}")
    page = Path(html_file) if html_file else None
    if page is not None:
        require(page.suffix == ".html", "--html", html_file, "must end in .html")
        check_plotly("--html")
    folders = best_first(by_name([recorded_run(word) for word in words]))
    num_columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(comparison_of(folders, num_columns), end="")
    from lockstep.report.figures.curves import draw_comparison  # imports matplotlib, which is slow
    from lockstep.report.figures.figure_style import save_figure

    headline = read_task_facts(next(iter(folders.values()))).headline
    figure = draw_comparison({name: read_metrics(folder) for name, folder in folders.items()}, headline)
    written = [path]
    try:
        save_figure(figure, path)
        if page is not None:
            from lockstep.report.html.html_comparison import write_html_comparison

            written.append(page)
            write_html_comparison(folders, page)
    except OSError as error:
        option = "--html" if written[-1] == page else "--output"
        rule = f"cannot be written ({error.strerror}); choose another path"
        raise refuse(option, str(written[-1]), rule) from error
    print(f"lockstep: wrote {', '.join(map(str, written))}")
    return 0


def by_name(folders: list[Path]) -> dict[str, Path]:
    """Run folders by name, or by path if two of them have the same name."""
    names = {folder.resolve().name: folder for folder in folders}
    return names if len(names) == len(folders) else {str(folder): folder for folder in folders}
