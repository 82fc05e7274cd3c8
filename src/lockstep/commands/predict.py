"""`lockstep predict`: what a trained model says of files."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from lockstep.config import nearest, take_option
from lockstep.errors import EXIT_FAILED, EXIT_USAGE, counted, refuse, require
from lockstep.launch import read_launch
from lockstep.runs import TO_SCORE, run_settings

if TYPE_CHECKING:
    from lockstep.inference import Answer, Prediction

HELP = """usage: lockstep predict RUN WHAT... [--output FILE] [--invert auto|yes|no]

Label WHAT with the model of RUN: a run folder (its newest checkpoint), RUN:best, RUN:ema or RUN:best-ema, or
one checkpoint of a run. WHAT are image files, folders of them, IDX and npz files, or parquet files of Hugging
Face; a task of your own reads its files itself. Images are prepared like the test images of the run.
  --output FILE  write .csv or .jsonl (JSON lines), by the suffix; without it, CSV goes to the console
  --invert       auto: invert images with a bright border, such as ink on paper, if the training images have
                 dark ones. Or invert all (yes) or none (no)
A line has the sample, its label, the probability, and the next two classes. Samples that cannot be read are
listed, and the exit code is then 1. Works on any number of processes.
"""
CODE = tuple(f"--{name}" for name in TO_SCORE)
"""Options that name code of the run which is not as recorded; see `run_settings`."""
OPTIONS = ("--output", "--invert", *CODE)
INVERT = ("auto", "yes", "no")
SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("sample", "label", "probability", "label_2", "probability_2", "label_3", "probability_3")
REPORTED = {
    "inverted": "inverted, as the border is bright and that of the training images dark (--invert no)",
    "resized": "resized to the size of the training images",
    "cropped": "resized and cropped to the central square, as the training images are squares",
}
"""Change → what is said of the samples that underwent it."""


def predict(argv: list[str]) -> int:
    """Prints or writes a line for each sample, and returns the exit code.

    Raises:
        ConfigError: RUN is not a run with a checkpoint, WHAT does not exist, or an option is wrong.
    """
    output, words = take_option(argv, "--output")
    invert, words = take_option(words, "--invert")
    if len(words) < 2 or {"-h", "--help"} & set(words):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(words) else EXIT_USAGE
    named = []
    for option in CODE:
        value, words = take_option(words, option)
        named += [f"{option}={value}"] if value else []
    for word in words:
        near = nearest(word.partition("=")[0], OPTIONS) or " or ".join(OPTIONS)
        require(not word.startswith("--"), word, "", f"there is no such option; perhaps you meant {near}")
    require(invert in ("", *INVERT), "--invert", invert, f"must be one of {', '.join(INVERT)}")
    target = Path(output) if output else None
    rule = f"must end in {' or '.join(SUFFIXES)}"
    require(target is None or target.suffix in SUFFIXES, "--output", output, rule)
    from lockstep.runs.checkpoints.weights import run_of  # imports torch, which is slow

    folder = run_of(words[0])
    chosen: Any = invert or "auto"
    config = run_settings(folder, named, uses=())
    launch = read_launch()
    from lockstep.inference import predict as predict_samples

    if not launch.is_main:
        predict_samples(words[0], words[1:], config, launch, invert=chosen)
        return 0
    with opened(target) as file:
        lines = Lines(file, is_json=target is not None and target.suffix == ".jsonl")
        predict_samples(
            words[0],
            words[1:],
            config,
            launch,
            invert=chosen,
            start=lines.start,
            take=lines.take,
        )
        file.flush()
    return lines.close()


@contextmanager
def opened(target: Path | None) -> Iterator[TextIO]:
    """Where the lines go: stdout, or a file that is there as a whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    if target is None:
        yield sys.stdout
        return
    partial = target.with_name(f".{target.name}.partial")
    try:
        file = partial.open("w", newline="")
    except OSError as error:
        rule = f"cannot be written ({error.strerror}); choose another path"
        raise refuse("--output", str(target), rule) from error
    try:
        with file:
            yield file
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


class Lines:
    """Writes a line per prediction, shows a progress bar, and says in the end what was changed or damaged."""

    def __init__(self, file: TextIO, *, is_json: bool) -> None:
        self._file, self._is_json = file, is_json
        self._table = csv.writer(file, lineterminator="\n")
        self._changes: Counter[str] = Counter()
        self._damages: list[str] = []
        # A bar between the lines of a table on the same terminal would be in their way.
        is_hidden = not sys.stderr.isatty() or (file is sys.stdout and sys.stdout.isatty())
        self._bar = tqdm(unit="sample", dynamic_ncols=True, file=sys.stderr, leave=False, disable=is_hidden)
        self._has_header = is_json

    def start(self, num_samples: int) -> None:
        """Sets the end of the progress bar."""
        self._bar.reset(num_samples)

    def take(self, answer: Answer) -> None:
        """Writes the line of a sample, if it could be read."""
        self._bar.update()
        if answer.prediction is None:
            self._damages.append(f"{answer.name}: {answer.damage}")
            return
        self._changes.update(answer.changes)
        if self._is_json:
            self._file.write(json.dumps(as_json(answer.name, answer.prediction)) + "\n")
            return
        if not self._has_header:
            self._table.writerow(COLUMNS if answer.prediction.classes else ("sample", "output"))
            self._has_header = True
        self._table.writerow(cells(answer.name, answer.prediction))

    def close(self) -> int:
        """Says on stderr what a person should know, and returns the exit code."""
        self._bar.close()
        for change, text in REPORTED.items():
            if self._changes[change]:
                images = counted(self._changes[change], "image", ",")
                print(f"lockstep: {images} {text}", file=sys.stderr)
        for damage in self._damages:
            print(f"lockstep: cannot be read: {damage}", file=sys.stderr)
        return EXIT_FAILED if self._damages else 0


def cells(name: str, prediction: Prediction) -> list[str]:
    """The cells of a line of the table."""
    if not prediction.classes:
        return [name, json.dumps(prediction.output)]
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return [name, *(cell for label, probability in pairs for cell in (label, f"{probability:.6f}"))]


def as_json(name: str, prediction: Prediction) -> dict[str, Any]:
    """A line of JSON."""
    if not prediction.classes:
        return {"sample": name, "output": prediction.output}
    return {
        "sample": name,
        "label": prediction.label,
        "probability": prediction.probabilities[0],
        "top": dict(zip(prediction.classes, prediction.probabilities, strict=True)),
    }
