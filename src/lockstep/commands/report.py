"""`lockstep report`: the pictures of runs."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import take_option
from lockstep.errors import EXIT_USAGE, require
from lockstep.report import check_plotly
from lockstep.runs import recorded_run

HELP = """usage: lockstep report RUN... [--html] [--output FOLDER]

Draw curves.png, confusion.png and mistakes.png into the folder report/ of each run folder RUN. They are
drawn from metrics.jsonl and evaluations/, so this needs neither data nor weights, and works for a run that
was killed or is still training.
  --html           also write index.html, all of it in one file to send: curves one can hover over, the
                   matrix, mistakes, precision and recall of each class, settings, starts, time by part;
                   needs pip install lockstep-trainer[report]
  --output FOLDER  write the pictures of one RUN into FOLDER instead, such as of a run that is not yours
"""


HTML = "--html"


def report(argv: list[str]) -> int:
    """Draws the reports of run folders and returns the exit code.

    Raises:
        ConfigError: a RUN is not a run folder with records, or the pictures cannot be written.
    """
    output, words = take_option(argv, "--output")
    has_page, words = HTML in words, [word for word in words if word != HTML]
    if not words or words[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    from lockstep.report.run_report import draw_report  # imports matplotlib and torch, which are slow

    require(not output or len(words) == 1, "--output", output, "takes the pictures of one RUN; name only one")
    if has_page:
        check_plotly(HTML)
    for word in words:
        folder = recorded_run(word)
        written = draw_report(folder, Path(output) if output else None)
        if has_page:
            from lockstep.report.html.html_report import write_html_report

            written.append(write_html_report(folder, written[0].parent))
        print(f"lockstep: wrote {', '.join(map(str, written))}")
    return 0
