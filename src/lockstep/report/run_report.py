"""`lockstep report`: what is in a run folder's report/, drawn from the files of the folder alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL.Image import Image

from lockstep.errors import counted
from lockstep.report.figures.confusion_figure import draw_confusion
from lockstep.report.figures.contact_sheet import draw_contact_sheet
from lockstep.report.figures.curves import draw_curves
from lockstep.report.figures.figure_style import picture_of, save_picture, shortened
from lockstep.report.html.check_plotly import has_plotly
from lockstep.runs import (
    check_links,
    check_writable,
    read_metrics,
    read_starts,
    read_task_facts,
    resume_steps,
)
from lockstep.runs.saved_evaluations import newest_evaluation
from lockstep.task import CONFIDENCE, LABEL, PREDICTION, confusion, is_classification, num_correct

REPORT_FOLDER = "report"


def draw_report(folder: Path, output: Path | None = None) -> list[Path]:
    """Draws the curves of a run with records and its last evaluation, and with plotly writes index.html.

    Args:
        folder: the run folder.
        output: where the pictures go; by default the folder's REPORT_FOLDER.

    Returns:
        The paths written.

    Raises:
        ConfigError: the pictures cannot be written.
    """
    target = output or folder / REPORT_FOLDER
    remedy = "give another folder with --output"
    check_writable(target, "--output" if output else "RUN", str(output or folder), remedy)
    if output is None:
        check_links(folder)
    target.mkdir(parents=True, exist_ok=True)
    name, records = shortened(folder.resolve().name, 60), read_metrics(folder)
    newest = records[-1]
    steps = counted(newest["step"], "step", ",")
    reached = f"{steps}, {counted(newest['samples_seen'], 'training sample', ',')}"
    facts = read_task_facts(folder)
    resumes = resume_steps(read_starts(folder))
    curves = draw_curves(records, resumes, f"{name}\n{reached}", facts.headline)
    paths = []
    for picture_name, picture in {"curves": picture_of(curves), **evaluation_pictures(folder)}.items():
        paths.append(target / f"{picture_name}.png")
        save_picture(picture, paths[-1])
    if has_plotly():
        from lockstep.report.html.html_report import write_html_report  # imports plotly

        paths.append(write_html_report(folder, target))
    return paths


def evaluation_pictures(folder: Path) -> dict[str, Image]:
    """The pictures of the last evaluation by name: 'confusion' and, of images, 'mistakes'.

    Empty if there is no evaluation, or it is not of a classification.
    """
    saved, facts = newest_evaluation(folder), read_task_facts(folder)
    if saved is None or not is_classification(saved.scores):
        return {}
    scores, worst = saved.scores, saved.mistakes
    num_wrong = scores.num_samples - num_correct(scores)
    share = f"({num_wrong / scores.num_samples:.2%})"
    errors = f"{num_wrong:,} of {scores.num_samples:,} {scores.split} samples wrong {share}"
    title = f"{shortened(folder.resolve().name, 60)}\nafter step {scores.step:,}: {errors}"
    counts = confusion(scores, len(facts.classes)).numpy()
    pictures: dict[str, Image] = {"confusion": draw_confusion(counts, facts.classes, title)}
    if saved.images is not None:
        columns = scores.columns
        pictures["mistakes"] = draw_contact_sheet(
            saved.images.numpy(),
            [facts.classes[label] for label in columns[LABEL][worst].tolist()],
            [facts.classes[prediction] for prediction in columns[PREDICTION][worst].tolist()],
            [f"p {columns[CONFIDENCE][sample]:.3f}, #{sample}" for sample in worst],
            title + (f"; the {len(worst)} with the highest loss" if worst else "; no mistakes to show"),
        )
    return pictures


def pixels_of_pictures(folder: Path) -> dict[str, np.ndarray]:
    """`evaluation_pictures` as pixels, uint8 (height, width, 3)."""
    return {name: np.asarray(picture) for name, picture in evaluation_pictures(folder).items()}
