"""Predictions for what people have, on any number of ranks: of each sample one, and in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import default_collate

from lockstep.config import Config, DataConfig
from lockstep.data import (
    Change,
    ImagePreprocessing,
    InvertName,
    Pictures,
    UnreadableImage,
    find_files,
    find_pictures,
    has_transposed_files,
)
from lockstep.errors import ConfigError, first_line, require
from lockstep.inference.predictor import (
    Prediction,
    batch_size,
    check_same_classes,
    no_preprocessing,
    predictions_of,
)
from lockstep.launch import Launch, num_cores
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.checkpoints.weights import read_weights
from lockstep.task import Task, evaluating
from lockstep.trainer import find_task, first_on_each_node, model_with_weights, prepare_forward


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one sample."""

    name: str
    """Which one it is, such as the path of its file."""
    prediction: Prediction | None = None
    changes: Sequence[Change] = ()
    """How its pixels were changed."""
    damage: str = ""
    """Why it could not be read, and has no prediction."""


class Readable(Protocol):
    """Samples without targets, numbered from 0."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, index: int) -> tuple[Answer, Any]:
        """Which sample it is, and the input of the model; None if it is damaged."""


@dataclass(frozen=True, kw_only=True)
class ReadablePictures:
    """Images for the built-in task."""

    pictures: Pictures
    preprocess: ImagePreprocessing

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> tuple[Answer, Any]:
        source, number = self.pictures.find(index)
        name = source.name(number)
        try:
            pixels, changes = self.preprocess.pixels("it", source.read(number))
        except (UnreadableImage, ConfigError) as error:
            return Answer(name=name, damage=str(error)), None
        return Answer(name=name, changes=changes), self.preprocess.normalise(pixels)


@dataclass(frozen=True, kw_only=True)
class ReadableFiles:
    """Files for a user's task."""

    files: Sequence[Path]
    preprocess: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[Answer, Any]:
        path = self.files[index]
        try:
            return Answer(name=str(path)), self.preprocess(path)
        except Exception as error:  # a user's code may raise anything for a file that is damaged
            return Answer(name=str(path), damage=first_line(error)), None


def predict(
    run: str,
    words: Sequence[str],
    config: Config,
    launch: Launch,
    *,
    invert: InvertName = "auto",
    start: Callable[[int], None] = lambda num_samples: None,
    take: Callable[[Answer], None] = lambda answer: None,
) -> None:
    """Labels the samples that a user names. Every process of the launch must call it.

    Args:
        run: a run folder or one checkpoint in it, as `read_weights` takes it.
        words: what to label: files and folders.
        config: the settings of the run.
        launch: what the launcher started.
        invert: which images are inverted.
        start: gets the number of samples, on the main rank.
        take: gets the answers on the main rank, in the order of the samples.

    Raises:
        ConfigError: on every rank, if the run has no checkpoint, the task does not fit it or cannot read
            files, or there is nothing to label.
    """
    with join_ranks(launch, resolve_precision(config, launch).precision, config.run.timeout_seconds) as ranks:
        weights = ranks.on_main(lambda: read_weights(run))
        folder = weights.run
        assert folder is not None, "a command takes its settings from there"
        config, task = first_on_each_node(ranks, "the task", lambda: find_task(config, None, folder))
        ranks.on_all(lambda: check_same_classes(task, folder))
        model = model_with_weights(config, task, ranks, weights.tensors)
        samples = find_samples(words, config.data, task, invert, ranks)
        ranks.on_main(lambda: start(len(samples)))
        size = batch_size(task, config.batch.eval_size)
        with ExitStack() as closing, ThreadPoolExecutor(num_cores()) as pool:
            prepare_forward(model, ranks, closing)
            closing.enter_context(evaluating(model))
            for first in range(0, len(samples), size * ranks.world_size):
                own_first = first + size * ranks.rank
                ids = range(own_first, min(own_first + size, len(samples)))
                read = list(pool.map(samples.read, ids))
                mine = ranks.on_all(partial(answers, model, task, read, ranks))
                for each in ranks.gather_objects(mine):
                    for answer in each if ranks.is_main else ():
                        take(answer)


def find_samples(
    words: Sequence[str], config: DataConfig, task: Task, invert: InvertName, ranks: Ranks
) -> Readable:
    """What words name, as the main rank sees it. All ranks must call it.

    Raises:
        ConfigError: on every rank, if the task cannot read files, or there is nothing to read.
    """
    preprocess = task.preprocess
    if preprocess is None:
        raise no_preprocessing()
    if isinstance(preprocess, ImagePreprocessing):
        is_transposed = has_transposed_files(config)
        pictures = ranks.on_main(lambda: find_pictures(words, is_transposed=is_transposed))
        return ReadablePictures(pictures=pictures, preprocess=replace(preprocess, invert=invert))
    require(invert == "auto", "--invert", invert, "is for the built-in task; leave it out")
    return ReadableFiles(files=ranks.on_main(lambda: find_files(words)), preprocess=preprocess)


def answers(model: nn.Module, task: Task, read: Sequence[tuple[Answer, Any]], ranks: Ranks) -> list[Answer]:
    """The predictions for a batch of samples; those that are damaged stay as they are."""
    inputs = [each for answer, each in read if not answer.damage]
    if not inputs:
        return [answer for answer, _ in read]
    batch = send_to_device(default_collate(inputs), ranks.device)
    predictions = iter(predictions_of(model, batch, task.classes))
    return [answer if answer.damage else replace(answer, prediction=next(predictions)) for answer, _ in read]
