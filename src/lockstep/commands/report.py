"""`lockstep report`: the pictures of runs."""

from __future__ import annotations

from lockstep.errors import EXIT_USAGE
from lockstep.runs import recorded_run

HELP = """usage: lockstep report RUN...

Draw curves.png, confusion.png and mistakes.png into the folder report/ of each run folder RUN. They are
drawn from metrics.jsonl and evaluations/, so this needs neither data nor weights, and works for a run that
was killed or is still training.
"""


def report(argv: list[str]) -> int:
    """Draws the reports of run folders and returns the exit code.

    Raises:
        ConfigError: a RUN is not a run folder with records.
    """
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    from lockstep.report.run_report import draw_report  # imports matplotlib and torch, which are slow

    for word in argv:
        print(f"lockstep: wrote {', '.join(map(str, draw_report(recorded_run(word))))}")
    return 0
