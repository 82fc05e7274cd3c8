"""`lockstep report`."""

from __future__ import annotations

from lockstep.errors import EXIT_USAGE
from lockstep.report.run_report import draw_report
from lockstep.runs import recorded_run

HELP = """usage: lockstep report RUN...

Draw curves.png, confusion.png and mistakes.png anew, into the folder report/ of each run folder RUN. What is
drawn is what metrics.jsonl and evaluations/ hold: neither data nor weights are needed, and a run that was
killed, or still goes on, can be looked at too.
"""


def report(argv: list[str]) -> int:
    """Draws the reports of run folders; the exit code."""
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    for word in argv:
        print(f"lockstep: wrote {', '.join(map(str, draw_report(recorded_run(word))))}")
    return 0
