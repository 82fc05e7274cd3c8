"""report/index.html: all that a run folder says of its run, in one file to send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lockstep.report.html import html_page
from lockstep.report.html.html_figures import confusion_figure, curves
from lockstep.report.html.html_page import drawn, named_values, paragraph, section, table
from lockstep.report.numbers import shown
from lockstep.runs import (
    changed_settings,
    read_metrics,
    read_starts,
    read_summary,
    read_task_facts,
    resume_steps,
    write_atomically,
)
from lockstep.runs.evaluations import SavedEvaluation, newest_evaluation
from lockstep.task import CONFIDENCE, LABEL, PREDICTION, confusion, is_classification

PAGE = "index.html"


def write_html_report(folder: Path, target: Path) -> Path:
    """Writes the report of a run with records into a folder, and returns its path."""
    records, starts, facts = read_metrics(folder), read_starts(folder), read_task_facts(folder)
    saved, summary = newest_evaluation(folder), read_summary(folder) or {}
    state = "finished" if summary else "not finished"
    reached = f"{state}; {records[-1]['step']:,} steps, {records[-1]['samples_seen']:,} training samples"
    parts = [
        paragraph(reached),
        section("Scores", _scores(saved)),
        section("Curves", drawn(curves(records, resume_steps(starts), facts.headline))),
    ]
    if saved is not None and is_classification(saved.scores):
        counts = confusion(saved.scores, len(facts.classes)).numpy()
        parts += [
            section("Confusion matrix", drawn(confusion_figure(counts, facts.classes))),
            section("Precision and recall", _by_class(counts, facts.classes)),
            section("Mistakes with the highest loss", _mistakes(saved, facts.classes)),
        ]
    seconds = summary.get("phase_seconds", {})
    parts += [
        section("Settings that differ from the defaults", named_values(_plain(changed_settings(folder)))),
        section("Time by part", named_values({name: f"{value:.1f} s" for name, value in seconds.items()})),
        section("Starts", _starts(starts)),
    ]
    path = target / PAGE
    write_atomically(path, html_page.page(folder.resolve().name, parts))
    return path


def _scores(saved: SavedEvaluation | None) -> str:
    if saved is None:
        return ""
    scores = saved.scores
    where = paragraph(f"On {scores.num_samples:,} {scores.split} samples after step {scores.step:,}.")
    return where + named_values({name: shown(name, value) for name, value in scores.values.items()})


def _by_class(counts: np.ndarray, classes: tuple[str, ...]) -> str:
    """Precision and recall of each class: of its predictions, and of its samples, the part that is right."""
    right, predicted, labelled = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    rows = [
        (
            name,
            f"{labelled[index]:,}",
            f"{right[index] / predicted[index]:.2%}" if predicted[index] else "-",
            f"{right[index] / labelled[index]:.2%}" if labelled[index] else "-",
        )
        for index, name in enumerate(classes)
    ]
    return table(("class", "samples", "precision", "recall"), rows)


def _mistakes(saved: SavedEvaluation, classes: tuple[str, ...]) -> str:
    if saved.images is None:
        return ""
    columns, images, captions = saved.scores.columns, [], []
    for sample, pixels in zip(saved.mistakes, saved.images.numpy(), strict=True):
        plain = 255 - pixels if pixels.ndim == 2 else pixels  # digits are drawn dark on white
        images.append(Image.fromarray(plain.squeeze(-1) if plain.shape[-1] == 1 else plain))
        label, prediction = (classes[int(columns[name][sample])] for name in (LABEL, PREDICTION))
        confidence = float(columns[CONFIDENCE][sample])
        captions.append(f"{label} → {prediction}, p {confidence:.3f}, #{sample}")
    return html_page.pictures(images, captions)


def _starts(starts: list[dict[str, object]]) -> str:
    names = ("step", "world_size", "device", "num_threads", "versions", "git")
    rows = [[_text(start.get(name, "-")) for name in names] for start in starts]
    return table(("after step", "processes", "device", "threads", "versions", "git"), rows)


def _plain(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
