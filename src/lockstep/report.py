"""The pictures in a run folder's report/, drawn from its files alone; `lockstep report`."""

from __future__ import annotations

from pathlib import Path

from lockstep.confusion import draw_confusion
from lockstep.contact_sheet import draw_contact_sheet
from lockstep.curves import draw_curves
from lockstep.figures import save, shortened
from lockstep.kept_evaluation import read_evaluation
from lockstep.run_files import read_metrics, read_starts, recorded_run, resume_steps

REPORT_FOLDER = "report"

HELP = """usage: lockstep report RUN...

Draw curves.png, confusion.png and mistakes.png anew, into the folder report/ of each run folder RUN. What is
drawn is what metrics.jsonl and evaluations/ hold: neither data nor weights are needed, and a run that was
killed, or still goes on, can be looked at too.
"""


def report(argv: list[str]) -> int:
    """Draws the reports of run folders; the exit code."""
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else 2
    for word in argv:
        print(f"lockstep: wrote {', '.join(map(str, draw_report(recorded_run(word))))}")
    return 0


def draw_report(folder: Path) -> list[Path]:
    """Draws what a run with records has: its curves, and its last evaluation if there was one."""
    target = folder / REPORT_FOLDER
    target.mkdir(exist_ok=True)
    name, records = shortened(folder.resolve().name, 60), read_metrics(folder)
    reached = f"{records[-1]['step']:,} steps, {records[-1]['samples_seen']:,} training samples"
    curves = target / "curves.png"
    save(draw_curves(records, resume_steps(read_starts(folder)), f"{name}\n{reached}"), curves)
    kept = read_evaluation(folder)
    if kept is None:
        return [curves]
    scores, worst = kept.scores, kept.mistakes
    num_wrong = scores.num_samples - scores.num_correct
    found = f"{num_wrong:,} of {scores.num_samples:,} wrong ({1 - scores.accuracy:.2%})"
    title = f"{name}\nafter step {kept.step:,}: {found}"
    confusion, mistakes = target / "confusion.png", target / "mistakes.png"
    save(draw_confusion(scores.confusion.numpy(), title), confusion)
    sheet = draw_contact_sheet(
        kept.images.numpy(),
        scores.labels[worst].tolist(),
        scores.predictions[worst].tolist(),
        [f"p {scores.confidences[sample]:.3f}, #{sample}" for sample in worst],
        title + (f"; the {len(worst)} of highest loss" if worst else "; no mistakes to show"),
    )
    sheet.save(mistakes)
    return [curves, confusion, mistakes]
