"""Tasks that users might bring: other data than images, losses of each form, data of each kind."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

import lockstep

NUM_TOKENS, LENGTH = 11, 7


class Sentences(Dataset):
    """Token sequences of random lengths, as dicts, with noise that each read draws from all generators."""

    def __init__(self, count=80):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        tokens = torch.tensor(generator.integers(0, NUM_TOKENS, LENGTH + 1))
        targets = tokens[1:].clone()
        targets[int(generator.integers(1, LENGTH)) :] = -100
        shift = torch.rand(()) + float(np.random.rand())
        return {"tokens": tokens[:-1], "shift": shift}, targets


class Reader(nn.Module):
    """Logits (batch, length, tokens), with dropout."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(NUM_TOKENS, 8), nn.Linear(8, NUM_TOKENS)

    def forward(self, tokens, shift):
        return self.head(F.dropout(self.embedding(tokens), 0.2, self.training) + shift[:, None, None])


def token_loss(logits, targets):
    """The sum over the targets and their number, and a part that is logged."""
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    count = (targets != -100).sum()
    return {"loss": (total, count), "logit_size": logits.square().mean()}


def token_accuracy(logits, targets):
    return ((logits.argmax(2) == targets) & (targets != -100)).sum(), (targets != -100).sum()


def sentences(count: int = 80) -> lockstep.Task:
    """A language model: dict inputs, a loss that counts and has a part, a metric that counts, keyed reads."""
    return lockstep.Task(
        name="sentences",
        model=Reader,
        train=lambda: Sentences(count),
        test=lambda: Sentences(21),
        loss=token_loss,
        metrics={"token_accuracy": token_accuracy},
        headline="token_accuracy",
        higher_is_better=True,
    )


def line_data(count, offset=0):
    x = torch.linspace(-1, 1, count)[:, None] + offset
    return TensorDataset(x, 3 * x)


def line(loss=F.mse_loss, **changes) -> lockstep.Task:
    """Regression of a line; by default its loss is a mean over the micro-batch."""
    settings = {
        "name": "line",
        "model": lambda: nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)),
        "train": lambda: line_data(70),
        "test": lambda: line_data(23, 0.01),
        "loss": loss,
    }
    return lockstep.Task(**{**settings, **changes})


def line_of_instances() -> lockstep.Task:
    """The line with a model and data that are given themselves."""
    torch.manual_seed(3)
    parts = {"model": nn.Linear(1, 1), "train": line_data(70), "test": line_data(23, 0.01)}
    return line(name="line-of-instances", **parts)


def no_task():
    return 3


def read_numbers(path):
    """The input of a task of a user's own, from a file."""
    return torch.tensor([float(word) for word in path.read_text().split()])


def sides() -> lockstep.Task:
    """On which side of a line a point lies; points are read from text files."""
    points = torch.linspace(-1, 1, 64)[:, None]
    data = TensorDataset(points, (points[:, 0] > 0).long())
    return lockstep.Task(
        name="sides",
        model=lambda: nn.Linear(1, 2),
        train=data,
        test=data,
        loss=nn.CrossEntropyLoss(),
        classes=["left", "right"],
        preprocess=read_numbers,
    )
