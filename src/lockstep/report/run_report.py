"""The pictures in a run folder's report/, drawn from its files alone; `lockstep report`."""

from __future__ import annotations

from pathlib import Path

from lockstep.report.confusion_picture import draw_confusion
from lockstep.report.contact_sheet import draw_contact_sheet
from lockstep.report.curves import draw_curves
from lockstep.report.figures import save_figure, shortened
from lockstep.runs import read_metrics, read_starts, resume_steps
from lockstep.runs.evaluations import read_evaluation

REPORT_FOLDER = "report"


def draw_report(folder: Path) -> list[Path]:
    """Draws what a run with records has: its curves, and its last evaluation if there was one."""
    target = folder / REPORT_FOLDER
    target.mkdir(exist_ok=True)
    name, records = shortened(folder.resolve().name, 60), read_metrics(folder)
    reached = f"{records[-1]['step']:,} steps, {records[-1]['samples_seen']:,} training samples"
    curves = target / "curves.png"
    save_figure(draw_curves(records, resume_steps(read_starts(folder)), f"{name}\n{reached}"), curves)
    kept = read_evaluation(folder)
    if kept is None:
        return [curves]
    scores, worst = kept.scores, kept.mistakes
    num_wrong = scores.num_samples - scores.num_correct
    found = f"{num_wrong:,} of {scores.num_samples:,} wrong ({1 - scores.accuracy:.2%})"
    title = f"{name}\nafter step {scores.step:,}: {found}"
    confusion, mistakes = target / "confusion.png", target / "mistakes.png"
    save_figure(draw_confusion(scores.confusion.numpy(), title), confusion)
    sheet = draw_contact_sheet(
        kept.images.numpy(),
        scores.labels[worst].tolist(),
        scores.predictions[worst].tolist(),
        [f"p {scores.confidences[sample]:.3f}, #{sample}" for sample in worst],
        title + (f"; the {len(worst)} of highest loss" if worst else "; no mistakes to show"),
    )
    sheet.save(mistakes)
    return [curves, confusion, mistakes]
