"""`lockstep report`: the reports of runs."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_USAGE, require
from lockstep.report import INSTALL_PLOTLY, has_plotly
from lockstep.runs import recorded_run

HELP = """usage: lockstep report RUN... [--output FOLDER]

Write the report of each run folder RUN into its folder report/: index.html, all of it in one file to send
(curves one can hover over, the matrix, mistakes, precision and recall of each class, settings, environment,
starts, time by part, profile), and the pictures curves.png, confusion.png and mistakes.png. They are made
from the run's files, so this needs neither data nor weights, and works for a run that was killed or is
still training. index.html needs pip install lockstep-trainer[report].
  --output FOLDER  write the report of one RUN into FOLDER instead, such as of a run that is not yours
"""


def report(argv: list[str]) -> int:
    """Writes the reports of run folders and returns the exit code.

    Raises:
        ConfigError: a RUN is not a run folder with records, or the pictures cannot be written.
    """
    output, words = take_option(argv, "--output")
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    require(not output or len(words) == 1, "--output", output, "takes the report of one RUN; name only one")
    folders = [recorded_run(word) for word in words]
    from lockstep.report.run_report import draw_report  # imports matplotlib and torch, which are slow

    for folder in folders:
        written = draw_report(folder, Path(output) if output else None)
        print(f"lockstep: wrote {', '.join(map(str, written))}")
    if not has_plotly():
        print(f"lockstep: no index.html, as plotly is not installed; install it with: {INSTALL_PLOTLY}")
    return 0
