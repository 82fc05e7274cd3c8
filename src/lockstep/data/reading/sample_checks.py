"""What can be wrong with the samples of a user's data set, each found when a sample is read."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lockstep.data.reading.sample_trees import shapes_of
from lockstep.errors import ConfigError, DataError, first_line, refuse

DATA_PACKAGE = Path(__file__).parent.parent


@contextmanager
def refused_data() -> Iterator[None]:
    """Turns what is wrong with a sample into a user's mistake: before training all ranks can agree on it.

    Raises:
        ConfigError: the block raised DataError.
    """
    try:
        yield
    except DataError as error:
        raise ConfigError(str(error)) from None


def unreadable(what: str, error: BaseException) -> DataError:
    """The error for data whose own code raised: one line, and below it the traceback from there on."""
    if isinstance(error, ConfigError):  # Lockstep's own images: it names the file
        return DataError(str(error))
    trace = error.__traceback__
    while trace is not None and DATA_PACKAGE in Path(trace.tb_frame.f_code.co_filename).parents:
        trace = trace.tb_next
    lines = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return DataError(f"{what} ({first_line(error)})\n{lines}")


def length_of(field: str, dataset: Any) -> int:
    """How many samples a data set says that it has.

    Raises:
        ConfigError: its `__len__` raised.
    """
    with refused_data():
        try:
            return len(dataset)
        except Exception as error:
            raise unreadable(f"{field}: {type(dataset).__name__}.__len__ fails", error) from None


def check_pair(field: str, index: int, sample: Any) -> None:
    """Checks that a sample is a pair.

    Raises:
        DataError: it is not.
    """
    if not (isinstance(sample, tuple | list) and len(sample) == 2):
        shown = f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, Sequence) else sample
        rule = "must be a pair (input, target); each may be a tree of tensors"
        raise DataError(str(refuse(f"{field}[{index}]", shown, rule)))


def check_label(field: str, index: int, target: Any, num_classes: int) -> None:
    """Checks the target of a sample, if it is one value: it must be a class. Others, such as probabilities of
    all classes, are left to the loss.

    Raises:
        DataError: it is not.
    """
    if isinstance(target, Tensor | np.ndarray):
        if target.ndim:
            return
        target = target.item()
    if not isinstance(target, int | float | np.number | np.bool_ | str | bytes | None):
        return
    is_integer = isinstance(target, int | np.integer) and not isinstance(target, bool)
    if not (is_integer and target in range(num_classes)):
        rule = f"must be an integer from 0 to {num_classes - 1}, as task.classes has {num_classes} names"
        raise DataError(str(refuse(f"{field}[{index}] target", target, rule)))


def check_labels(field: str, targets: Tensor, num_classes: int) -> None:
    """`check_label` for the targets of all samples.

    Raises:
        DataError: one is not a class.
    """
    if targets.ndim == 1:
        is_class = (targets >= 0) & (targets < num_classes)
        if targets.is_floating_point() or targets.dtype == torch.bool:
            is_class &= torch.zeros_like(is_class)
        for index in (~is_class).nonzero().flatten()[:1].tolist():
            check_label(field, index, targets[index], num_classes)


def not_stackable(field: str, ids: Sequence[int], samples: Sequence[Any]) -> DataError | None:
    """The error for samples of different shapes; None if they have the same."""
    shapes = [shapes_of(list(sample)) for sample in samples]
    for index, shape in zip(ids, shapes, strict=True):
        if shape != shapes[0]:
            return DataError(
                f"{field}: samples {ids[0]} and {index} have different shapes, [input, target] = {shapes[0]} "
                f"and {shape}; give all the same in the data set, or pad them in task.collate"
            )
    return None
