"""`lockstep report`: draws the pictures in a run folder's report/, from the files of the folder alone."""

from __future__ import annotations

from pathlib import Path

from lockstep.errors import counted
from lockstep.report.confusion_picture import draw_confusion
from lockstep.report.contact_sheet import draw_contact_sheet
from lockstep.report.curves import draw_curves
from lockstep.report.figure_style import save_figure, shortened
from lockstep.runs import read_metrics, read_starts, resume_steps
from lockstep.runs.evaluations import read_evaluation

REPORT_FOLDER = "report"


def draw_report(folder: Path) -> list[Path]:
    """Draws the curves of a run with records, and its last evaluation if there is one; the paths written."""
    target = folder / REPORT_FOLDER
    target.mkdir(exist_ok=True)
    name, records = shortened(folder.resolve().name, 60), read_metrics(folder)
    newest = records[-1]
    steps = counted(newest["step"], "step", ",")
    reached = f"{steps}, {counted(newest['samples_seen'], 'training sample', ',')}"
    curves = target / "curves.png"
    save_figure(draw_curves(records, resume_steps(read_starts(folder)), f"{name}\n{reached}"), curves)
    saved = read_evaluation(folder)
    if saved is None:
        return [curves]
    scores, worst = saved.scores, saved.mistakes
    num_wrong = scores.num_samples - scores.num_correct
    errors = f"{num_wrong:,} of {scores.num_samples:,} wrong ({1 - scores.accuracy:.2%})"
    title = f"{name}\nafter step {scores.step:,}: {errors}"
    confusion, mistakes = target / "confusion.png", target / "mistakes.png"
    save_figure(draw_confusion(scores.confusion.numpy(), title), confusion)
    sheet = draw_contact_sheet(
        saved.images.numpy(),
        scores.labels[worst].tolist(),
        scores.predictions[worst].tolist(),
        [f"p {scores.confidences[sample]:.3f}, #{sample}" for sample in worst],
        title + (f"; the {len(worst)} with the highest loss" if worst else "; no mistakes to show"),
    )
    sheet.save(mistakes)
    return [curves, confusion, mistakes]
