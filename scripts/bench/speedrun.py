"""Time from the command to 99.0 % on the test set, compared with the best-known quick recipe.

The whole command runs in a fresh process for each seed. The quick recipe (quick_recipe.py) runs in this
process, in both memory formats; its time is that of its epoch alone, with images normalised beforehand.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from harness import LOCKSTEP, ROOT, Bench, command_seconds, main, side_by_side
from lockstep.data import ImageStore, load_dataset
from quick_recipe import train_quick_recipe
from results import Row, median_row, ratio

RECIPE = ("--config", str(ROOT / "configs" / "speedrun.yaml"))
NUM_SEEDS = 10
GPU_SECONDS = 0.1
"""The target for training on a GPU."""
NUM_TRIAL = 2048  # training samples with --quick


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One training, with one seed."""

    train_seconds: float
    accuracy: float
    command_seconds: float = 0.0
    """Seconds of the whole command; 0 if there is none."""
    phases: dict[str, float] = field(default_factory=dict)
    """Phase of the command → seconds."""


def measure(bench: Bench) -> list[Row]:
    """Accuracy over seeds, and training times of both recipes in turn."""
    data = replace(bench.config().data, num_train=NUM_TRIAL if bench.is_quick else 0)
    dataset, device = load_dataset(data, seed=0), bench.ranks.device
    assert isinstance(dataset.train, ImageStore)
    train, test = dataset.train.to(device), dataset.test.to(device)
    formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
    with TemporaryDirectory() as folder:
        blocks: dict[str, Callable[[int], Outcome]] = {
            **{
                name: partial(run_command, bench, Path(folder), words)
                for name, words in recipes(bench).items()
            },
            **{name: partial(run_quick_recipe, train, test, layout) for name, layout in formats.items()},
        }
        outcomes = side_by_side(
            {name: with_seeds(block) for name, block in blocks.items()},
            bench.count(NUM_SEEDS),
            num_warm_ups=0,
        )
    seconds = {name: [outcome.train_seconds for outcome in outcomes[name]] for name in outcomes}
    rows = [row for name in recipes(bench) for row in own_rows(bench, name, outcomes[name])]
    for name in formats:
        rows += [
            median_row(f"quick recipe, {name}: training", seconds[name], "s"),
            *accuracy_rows(f"quick recipe, {name}", outcomes[name]),
            *(
                ratio(f"training: {own} / quick recipe, {name}", seconds[own], seconds[name], at_most=0.5)
                for own in recipes(bench)
            ),
        ]
    return rows


def recipes(bench: Bench) -> dict[str, tuple[str, ...]]:
    """Name → the words of the command: as it is and, on a GPU, also in bf16."""
    found: dict[str, tuple[str, ...]] = {"lockstep": RECIPE}
    if bench.ranks.device.type == "cuda":
        found["lockstep, bf16"] = (*RECIPE, "--precision", "bf16")
    return found


def own_rows(bench: Bench, name: str, outcomes: list[Outcome]) -> list[Row]:
    """Accuracy and times of the command."""
    goal = GPU_SECONDS if bench.ranks.device.type == "cuda" else None
    phases = {phase: [each.phases[phase] for each in outcomes] for phase in outcomes[0].phases}
    return [
        *accuracy_rows(name, outcomes, at_least=99.0),
        median_row(f"{name}: whole command", [each.command_seconds for each in outcomes], "s", at_most=20.0),
        *(median_row(f"{name}: phase {phase}", values, "s") for phase, values in phases.items()),
        median_row(f"{name}: training", [each.train_seconds for each in outcomes], "s", at_most=goal),
    ]


def with_seeds(block: Callable[[int], Outcome]) -> Callable[[], Outcome]:
    """The block with the next seed, from 0 on, at each call."""
    seeds = count()
    return lambda: block(next(seeds))


def run_command(bench: Bench, folder: Path, words: tuple[str, ...], seed: int) -> Outcome:
    """Runs `lockstep train` in its own process."""
    name = "-".join(["run", *words[3:], str(seed)])  # run-0, run-bf16-0
    command = [*LOCKSTEP, "train", *words, "--seed", str(seed), "--tracking.mode", "disabled"]
    command += ["--data.root", bench.data_root, "--run.dir", str(folder), "--run.name", name]
    command += ["--data.num-train", str(NUM_TRIAL)] if bench.is_quick else []
    seconds = command_seconds(command)
    summary = json.loads((folder / name / "summary.json").read_text())
    return Outcome(
        train_seconds=summary["train_seconds"],
        accuracy=summary["test_accuracy"],
        command_seconds=seconds,
        phases=summary.get("phase_seconds", {}),
    )


def run_quick_recipe(train: ImageStore, test: ImageStore, layout: torch.memory_format, seed: int) -> Outcome:
    """Runs the quick recipe in this process."""
    seconds, accuracy = train_quick_recipe(train, test, seed, layout)
    return Outcome(train_seconds=seconds, accuracy=accuracy)


def accuracy_rows(name: str, outcomes: list[Outcome], at_least: float | None = None) -> list[Row]:
    """Mean and lowest test accuracy over seeds."""
    percents = [100 * outcome.accuracy for outcome in outcomes]
    n, mean = len(percents), statistics.mean(percents)
    return [
        Row(what=f"{name}: mean test accuracy", value=mean, unit="%", n=n, at_least=at_least),
        Row(what=f"{name}: lowest test accuracy", value=min(percents), unit="%", n=n),
    ]


if __name__ == "__main__":
    main(measure)
