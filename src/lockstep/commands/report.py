"""`lockstep report`: the pictures of runs."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_USAGE, require
from lockstep.runs import recorded_run

HELP = """usage: lockstep report RUN... [--output FOLDER]

Draw curves.png, confusion.png and mistakes.png into the folder report/ of each run folder RUN. They are
drawn from metrics.jsonl and evaluations/, so this needs neither data nor weights, and works for a run that
was killed or is still training.
  --output FOLDER  write the pictures of one RUN into FOLDER instead, such as of a run that is not yours
"""


def report(argv: list[str]) -> int:
    """Draws the reports of run folders and returns the exit code.

    Raises:
        ConfigError: a RUN is not a run folder with records, or the pictures cannot be written.
    """
    output, words = take_option(argv, "--output")
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    from lockstep.report.run_report import draw_report  # imports matplotlib and torch, which are slow

    require(not output or len(words) == 1, "--output", output, "takes the pictures of one RUN; name only one")
    for word in words:
        written = draw_report(recorded_run(word), Path(output) if output else None)
        print(f"lockstep: wrote {', '.join(map(str, written))}")
    return 0
