r"""Regression on a table: the progress of diabetes from ten measurements, by scikit-learn's data set.

    lockstep train --task examples.table_regression:make_task --task.args.hidden 64 \
        --batch.global-size 32 --batch.micro-size 16 --train.epochs 10

Needs scikit-learn, which holds the data: pip install scikit-learn
"""

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import lockstep

NUM_TRAIN = 354


def table(first: int, stop: int) -> TensorDataset:
    """Rows of measurements (10,), already scaled, and the progress as a multiple of its deviation (1,)."""
    measurements, progress = load_diabetes(return_X_y=True)
    mean, deviation = progress[:NUM_TRAIN].mean(), progress[:NUM_TRAIN].std()
    inputs = torch.tensor(measurements * 20, dtype=torch.float32)
    targets = torch.tensor((progress - mean) / deviation, dtype=torch.float32).unsqueeze(1)
    return TensorDataset(inputs[first:stop], targets[first:stop])


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(dim=1)


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean(dim=1)


def make_task(hidden: int = 32) -> lockstep.Task:
    return lockstep.Task(
        name="diabetes",
        model=lambda: nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, 1)),
        train=lambda: table(0, NUM_TRAIN),
        test=lambda: table(NUM_TRAIN, 442),
        loss=squared_error,
        metrics={"absolute_error": absolute_error},
        headline="absolute_error",
    )
