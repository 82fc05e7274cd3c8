"""Recurrent networks that read an image row by row: (batch, channels, size, size) → logits (batch, classes).

The shapes beside the lines are those of images (batch, 1, 28, 28) in ten classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lockstep.config import IMAGE_SIZE, NUM_CLASSES


class Rnn(nn.Module):
    """Reads an image row by row, top to bottom, and classifies it after the last row: 28 → 128 → 10."""

    def __init__(
        self, dropout: float = 0.0, channels: int = 1, size: int = IMAGE_SIZE, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size=channels * size, hidden_size=128, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.transpose(1, 2).flatten(2)  # (batch, 28 rows, 28)
        states, _ = self.rnn(rows)  # (batch, 28, 128)
        return self.head(self.dropout(states[:, -1]))


class OrthogonalRnn(Rnn):
    """The same network with an orthogonal recurrent matrix.

    It neither stretches nor shrinks the hidden state over 28 rows, so a gradient from the last row reaches
    the first: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks" (2013); Henaff, Szlam and LeCun, "Recurrent orthogonal networks" (2016).
    """

    def __init__(
        self, dropout: float = 0.0, channels: int = 1, size: int = IMAGE_SIZE, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__(dropout, channels, size, num_classes)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(parameter)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)


class RowFeatures(nn.Module):
    """Convolutions that turn an image into rows of features: (batch, 1, 28, 28) → (batch, 7, 168)."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (batch, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (batch, 24, 7, 7)
        return x.permute(0, 2, 1, 3).flatten(2)  # (batch, 7 rows, 24 * 7)


class RowReader(nn.Module):
    """A GRU over rows of features, with a linear head on its last state: (batch, 7, 168) → (batch, 10)."""

    def __init__(self, dropout: float = 0.0, width: int = 168, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size=width, hidden_size=96, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(96, num_classes)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.gru(rows)  # (batch, 7, 96)
        return self.head(self.dropout(states[:, -1]))


class CnnGru(nn.Module):
    """Two modules, `cnn` and `gru`, which parameter groups can train at different learning rates."""

    def __init__(
        self, dropout: float = 0.0, channels: int = 1, size: int = IMAGE_SIZE, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        self.cnn = RowFeatures(channels)
        self.gru = RowReader(dropout, 24 * (size // 4), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.gru(self.cnn(images))
