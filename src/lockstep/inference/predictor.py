"""The trained model of a run with what it needs to label a sample: its preprocessing and its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from lockstep.data import restored_generators, seed_generators
from lockstep.errors import ConfigError, refuse, require
from lockstep.runs import read_task_facts
from lockstep.runs.checkpoints.weights import read_weights, split_name
from lockstep.task import Task, call_model
from lockstep.trainer import find_task, model_of, model_setting, set_weights, settings_of_run

NUM_SHOWN = 3
"""How many of the most probable classes a prediction names."""
BATCH_SIZE = 250
"""Samples per forward of `Predictor.predict`."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one sample."""

    classes: tuple[str, ...] = ()
    """The most probable ones, at most NUM_SHOWN, the first one first. Empty if it is not a classification."""
    probabilities: tuple[float, ...] = ()
    """The softmax probability of each of them."""
    output: Any = None
    """Without classes: the output of the model, as nested lists of numbers."""

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[0]


class Predictor(nn.Module):
    """A trained model with its preprocessing and class names, in evaluation mode.

    Called with inputs, it is the model.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self.classes = task.classes
        """The names of the classes; empty if it is not a classification."""
        self.preprocess = task.preprocess
        """From what people have, such as the path of an image file, to the input of one sample."""
        self.batch_size = batch_size(task, BATCH_SIZE)
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the model."""
        return self.model(*args, **kwargs)

    def predict(self, samples: Sequence[Any]) -> list[Prediction]:
        """What the model says of samples, each of which goes through the preprocessing.

        Args:
            samples: of the built-in task paths of image files, PIL images, or arrays and tensors of uint8; of
                your own what `Task.preprocess` takes.

        Raises:
            ConfigError: the task has no preprocessing, or the model's outputs do not fit its classes.
            UnreadableImage: a file is not an image.
        """
        preprocess = self.preprocess
        if preprocess is None:
            raise no_preprocessing()
        predictions: list[Prediction] = []
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            read = [preprocess(Path(each) if isinstance(each, str) else each) for each in batch]
            predictions += predictions_of(self.model, default_collate(read), self.classes)
        return predictions


def load(task: Task | str | Path | None, folder: Path | str | None = None) -> Predictor:
    """The model of a run with its weights, on the CPU in evaluation mode.

    `load(folder)` is for runs whose settings name their task; `load(task, folder)` for any.

    Args:
        task: of the run, or a reference to it. A model that it holds itself, instead of a function that makes
            it, is the one that gets the weights.
        folder: the run folder, for the weights of its newest checkpoint; or 'FOLDER:best', 'FOLDER:ema' or
            'FOLDER:best-ema'.

    Raises:
        ConfigError: it is not a folder of a run of this task, or it has no checkpoint.
    """
    if folder is None:
        rule = "is missing; say which run, such as runs/NAME"
        require(isinstance(task, str | Path), "folder", None, rule)
        task, folder = None, str(task)
    (path, _), cpu = split_name(str(folder), "folder"), torch.device("cpu")
    assert not isinstance(task, Path), "a task is no path"
    config = settings_of_run(path, task, uses=())
    with restored_generators(cpu):
        config, resolved = find_task(config, task if isinstance(task, Task) else None, path)
        seed_generators(cpu, config.seed, "model")
        model = model_of(resolved).to(cpu)
    check_same_classes(resolved, path)
    set_weights(model_setting(config, resolved), model, read_weights(str(folder), "folder").tensors)
    return Predictor(model, resolved)


def predictions_of(model: nn.Module, inputs: Any, classes: Sequence[str]) -> list[Prediction]:
    """What a model in evaluation mode says of a batch.

    Raises:
        ConfigError: its outputs do not fit the classes.
    """
    with torch.no_grad():
        outputs = call_model(model, inputs)
    if not classes:
        rule = "are not a tensor, so they cannot be shown; give the task classes, or call the model yourself"
        require(isinstance(outputs, Tensor), "outputs of the model", type(outputs).__name__, rule)
        return [Prediction(output=output) for output in outputs.float().cpu().tolist()]
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    is_logits = isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] == len(classes)
    rule = f"with {len(classes)} classes the model must return logits (batch, {len(classes)}), not {shape}"
    require(is_logits, "task.classes", len(classes), rule)
    logits = outputs.float().cpu()
    first = logits.sort(dim=1, descending=True, stable=True).indices[:, :NUM_SHOWN]
    probabilities = logits.softmax(dim=1).gather(1, first)
    return [
        Prediction(classes=tuple(classes[index] for index in row), probabilities=tuple(values))
        for row, values in zip(first.tolist(), probabilities.tolist(), strict=True)
    ]


def batch_size(task: Task, size: int) -> int:
    """Samples per batch: one, if the task makes batches in a way of its own, which needs targets."""
    return size if task.collate is default_collate else 1


def check_same_classes(task: Task, folder: Path) -> None:
    """Checks that a task has the classes that the run in a folder was trained on.

    Raises:
        ConfigError: it has not, so its names would be wrong.
    """
    before = read_task_facts(folder).classes
    if before != tuple(task.classes):
        here, there = (", ".join(each[:10]) or "none" for each in (tuple(task.classes), before))
        rule = f"run {str(folder)!r} was trained on the classes {there}; use that task"
        raise refuse("task.classes", here, rule)


def no_preprocessing() -> ConfigError:
    """The error for a task that does not say how its samples are read."""
    rule = (
        "is missing, so nothing says how to read a sample; give the task a function from a Path to an input"
    )
    return refuse("task.preprocess", None, rule)
