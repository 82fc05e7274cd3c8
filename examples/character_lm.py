r"""A character language model over this repository's licence: a loss per target, with dropout.

    lockstep train --task examples.character_lm:make_task --batch.global-size 16 --batch.micro-size 8 \
        --optimizer.lr 0.01 --train.epochs 10

Sequences end where the text does, so batches hold different numbers of targets. The loss returns the sum over
the targets and their number, and Lockstep divides by the targets of the whole global batch: the mean over
characters is exact on any number of GPUs.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import lockstep

TEXT = (Path(__file__).resolve().parent.parent / "LICENSE").read_text()
ALPHABET = sorted(set(TEXT))
IGNORED = -100


class Lines(Dataset):
    """The lines of a text: each character is to be predicted from those before it."""

    def __init__(self, lines: list[str], length: int) -> None:
        self.lines, self.length = lines, length

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        codes = [ALPHABET.index(character) for character in self.lines[index][: self.length + 1]]
        inputs, targets = torch.zeros(self.length, dtype=torch.long), torch.full((self.length,), IGNORED)
        inputs[: len(codes) - 1] = torch.tensor(codes[:-1])
        targets[: len(codes) - 1] = torch.tensor(codes[1:])
        return inputs, targets


class Model(nn.Module):
    """Logits (batch, length, characters) from characters (batch, length)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), width)
        self.gru = nn.GRU(width, width, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, characters: Tensor) -> Tensor:
        return self.head(self.gru(self.embedding(characters))[0])


def loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total, (targets != IGNORED).sum()


def accuracy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    is_target = targets != IGNORED
    return ((logits.argmax(dim=2) == targets) & is_target).sum(), is_target.sum()


def make_task(width: int = 64, length: int = 64) -> lockstep.Task:
    lines = [line for line in TEXT.splitlines() if len(line) > 1]
    return lockstep.Task(
        name="licence",
        model=lambda: Model(width),
        train=lambda: Lines([line for place, line in enumerate(lines) if place % 10], length),
        test=lambda: Lines(lines[::10], length),
        loss=loss,
        metrics={"accuracy": accuracy},
        headline="accuracy",
        higher_is_better=True,
    )
