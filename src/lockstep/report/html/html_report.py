"""report/index.html: all that a run folder says of its run, in one file to send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lockstep.report.html import html_page
from lockstep.report.html.html_facts import environment, profile, starts_table
from lockstep.report.html.html_figures import confusion_figure, curves
from lockstep.report.html.html_page import drawn, named_values, paragraph, section, table
from lockstep.report.numbers import shown
from lockstep.runs import (
    Record,
    changed_settings,
    read_metrics,
    read_starts,
    read_summary,
    read_task_facts,
    resume_steps,
    write_atomically,
)
from lockstep.runs.checkpoints.weights import OF_A_RUN
from lockstep.runs.saved_evaluations import (
    TEST,
    VALIDATION,
    SavedEvaluation,
    newest_evaluation,
    read_evaluation,
)
from lockstep.task import CONFIDENCE, LABEL, PREDICTION, confusion, is_classification

PAGE = "index.html"


def write_html_report(folder: Path, target: Path) -> Path:
    """Writes the report of a run with records into a folder, and returns its path."""
    records, starts, facts = read_metrics(folder), read_starts(folder), read_task_facts(folder)
    saved, summary = newest_evaluation(folder), read_summary(folder) or {}
    parts = [
        paragraph(_reached(records[-1], summary)),
        section("Scores", _scores(folder)),
        section("Curves", drawn(curves(records, resume_steps(starts), facts.headline))),
    ]
    if saved is not None and is_classification(saved.scores):
        counts = confusion(saved.scores, len(facts.classes)).numpy()
        parts += [
            section("Confusion matrix", drawn(confusion_figure(counts, facts.classes))),
            section("Precision and recall", _by_class(counts, facts.classes)),
            section("Mistakes with the highest loss", _mistakes(saved, facts.classes)),
        ]
    seconds = summary.get("phase_seconds", {}).items()
    times = {name.replace("_", " "): f"{value:.1f} s" for name, value in seconds}
    parts += [
        section("Settings that differ from the defaults", named_values(_plain(changed_settings(folder)))),
        section("Environment", environment(starts)),
        section("Starts and resumes", starts_table(starts)),
        section("Time by part", named_values(times)),
        section("Profile", profile(folder)),
    ]
    path = target / PAGE
    write_atomically(path, html_page.page(folder.resolve().name, parts))
    return path


def _reached(newest: Record, summary: Mapping[str, Any]) -> str:
    """How far a run has come, in a line."""
    state = "finished" if summary else "not finished"
    text = f"{state}; {newest['step']:,} steps, {newest['samples_seen']:,} training samples"
    if "train_seconds" in summary:
        text += f", {summary['train_seconds']:,.1f} s of training"
    return text + (f"; weights {summary['weights_sha256'][:12]}" if "weights_sha256" in summary else "")


def _scores(folder: Path) -> str:
    """The values of each set and weights that were scored, a line for each."""
    evaluations = {
        (split, which): saved.scores
        for split in (TEST, VALIDATION)
        for which in OF_A_RUN
        if (saved := read_evaluation(folder, which, split)) is not None
    }
    names = list(dict.fromkeys(name for scores in evaluations.values() for name in scores.values))
    rows = [
        [
            split,
            which,
            f"{scores.step:,}",
            f"{scores.num_samples:,}",
            *(shown(name, scores.values.get(name)) for name in names),
        ]
        for (split, which), scores in evaluations.items()
    ]
    headings = [name.replace("top5_", "top-5 ").replace("_", " ") for name in names]
    return table(("set", "weights", "after step", "samples", *headings), rows)


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


def _plain(values: Mapping[str, object]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }
