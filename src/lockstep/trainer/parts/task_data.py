"""The data of a task in this process: made, read and checked before training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch

from lockstep.config import SPLIT, BatchConfig, DataConfig, ReductionName
from lockstep.data import ImageSamples, Samples, samples_of, seed_generators
from lockstep.errors import ConfigError, counted, require
from lockstep.launch import making
from lockstep.launch.ranks.ranks import Ranks
from lockstep.plan import micro_sizes
from lockstep.task import Task, is_instance

T = TypeVar("T")


def read_data(task: Task, config: DataConfig, seed: int, ranks: Ranks) -> tuple[Samples, Samples | None]:
    """The training and test data on the device, made under the run's seed, on one process of a node first.

    Raises:
        ConfigError: on every rank, if the data cannot be fetched or read.
    """

    train = first_on_each_node(ranks, "the training data", lambda: task_samples(task, "train", config, seed))
    if task.test is None:
        return train.to(ranks.device), None
    test = first_on_each_node(ranks, "the test data", lambda: task_samples(task, "test", config, seed))
    return train.to(ranks.device), test.to(ranks.device)


def read_validation(task: Task, config: DataConfig, seed: int, ranks: Ranks) -> Samples | None:
    """The task's own validation data, if it has any, as `read_data` reads the other.

    Raises:
        ConfigError: on every rank, if there is none and data.validation asks for it, or there are two.
    """
    stated, is_given = config.validation, task.validation is not None
    rule = f"task {task.name!r} has no validation data of its own; state a fraction, such as 0.1"
    require(is_given or stated != SPLIT, "data.validation", stated, rule)
    rule = f"task {task.name!r} brings its own validation data; leave this out"
    require(not is_given or stated in (0, SPLIT), "data.validation", stated, rule)
    if not is_given:
        return None
    samples = first_on_each_node(
        ranks, "the validation data", lambda: task_samples(task, "validation", config, seed)
    )
    return samples.to(ranks.device)


def task_samples(
    task: Task, which: Literal["train", "test", "validation"], config: DataConfig, seed: int
) -> Samples:
    """The training, test or validation data of a task, made under the run's seed; missing files are fetched.

    Raises:
        ConfigError: it cannot be fetched or read.
    """
    data = getattr(task, which)
    seed_generators(torch.device("cpu"), seed, f"{which} data")
    made = data if is_instance(data) else data()
    return samples_of(f"task.{which}", made, seed, task.collate, num_classes=len(task.classes), config=config)


def first_on_each_node(ranks: Ranks, what: str, make: Callable[[], T]) -> T:
    """Makes something on one process of each node, which may download files, then on the others.

    Args:
        ranks: all of them must call it.
        what: is made, for messages, such as 'the task'.
        make: returns it.
    """
    is_first = ranks.accelerator.is_local_main_process
    made: list[T] = []

    def make_in_turn(is_mine: bool) -> None:
        if is_mine:
            with making(what):
                made.append(make())

    ranks.on_all(lambda: make_in_turn(is_first))
    ranks.on_all(lambda: make_in_turn(not is_first))
    return made[0]


def differing_reads(
    batch: BatchConfig,
    reduction: ReductionName,
    train: Samples,
    test: Samples | None,
    validation: Samples | None = None,
) -> list[str]:
    """Reads a micro-batch of each set twice from equal seeds; warns of what differs.

    Raises:
        ConfigError: something differs, and the reduction is exact; or a sample cannot be read.
    """
    warnings = []
    size = batch.micro_size
    num_samples = micro_sizes(batch, reduction, world_size=1)[0] if size == "auto" else size
    for split, samples in (("train", train), ("test", test), ("validation", validation)):
        difference = samples.difference(num_samples) if samples is not None else ""
        name = name_of(split, samples)
        if difference and reduction == "exact":
            raise ConfigError(
                f"{name}: {difference}; draw from Python's, NumPy's or torch's global generators, or give a "
                "transform that is an attribute of the data set a set_random_seed; or use --reduction fast, "
                "which promises no equal bits"
            )
        if difference:
            warnings.append(f"{name}: {difference}, so this run cannot be repeated")
    return warnings


def check_lengths(
    ranks: Ranks, train: Samples, test: Samples | None, validation: Samples | None = None
) -> None:
    """Checks that the data has the same sizes on all ranks, which must call it.

    Raises:
        ConfigError: on every rank, if it has not.
    """
    splits = {"train": train, "test": test, "validation": validation}
    sizes = ranks.gather_objects({split: 0 if each is None else len(each) for split, each in splits.items()})
    for rank, size in enumerate(sizes):
        for split, count in size.items():
            if count != sizes[0][split]:
                raise ConfigError(
                    f"{name_of(split, splits[split])}: has {counted(count, 'sample')} on rank {rank} and "
                    f"{sizes[0][split]} on rank 0; "
                    "give every process the same data, made by a function under the run's seed; Lockstep "
                    "shares it out itself"
                )


def data_field(train: Samples) -> str:
    """Where a user says which data it is: images that the data settings name, or those of a task."""
    is_named = isinstance(train, ImageSamples) or train.description()
    return "data.name" if is_named else "task.train"


def name_of(split: str, samples: Samples | None) -> str:
    """Which data it is, for a message about one split."""
    field = "" if samples is None else data_field(samples)
    return f"data.name ({split})" if field == "data.name" else f"task.{split}"
