"""Convolutional networks: from normalised images (batch, channels, size, size) to logits (batch, classes).

The shapes beside the lines are those of images (batch, 1, 28, 28).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lockstep.config import IMAGE_SIZE, NUM_CLASSES


class Cnn(nn.Module):
    """Two convolutions and two linear layers. Pooling before ReLU leaves ReLU a quarter of the work."""

    def __init__(
        self, dropout: float = 0.0, channels: int = 1, size: int = IMAGE_SIZE, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 2) // 2  # a convolution takes its border, and pooling halves
        self.conv1 = nn.Conv2d(channels, 24, 5)
        self.conv2 = nn.Conv2d(24, 32, 3)
        self.linear1 = nn.Linear(32 * side * side, 256)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(256, num_classes)
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (batch, 24, 12, 12)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (batch, 32, 5, 5)
        x = F.relu(self.linear1(x.flatten(1)))  # (batch, 256)
        return self.linear2(self.dropout(x))


class StridedCnn(nn.Module):
    """A quarter of `Cnn`'s work: no border, a first convolution with stride 2, one linear layer.

    Batch normalisation (Ioffe and Szegedy, 2015) halves the steps to 99 %, and costs a tenth of each. MNIST's
    digits are scaled to 20 x 20 pixels and centred by mass, so the outer two rows and columns are almost
    empty. A forward pass takes 0.29 million multiplications per image; `Cnn` takes 1.24 million.
    """

    def __init__(
        self, dropout: float = 0.0, channels: int = 1, size: int = IMAGE_SIZE, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        side = ((size - 4 - 6) // 2 + 1) // 2 - 2  # as in forward: crop, stride 2, pooling, border
        self.conv1 = nn.Conv2d(channels, 32, 6, stride=2, bias=False)
        self.norm1 = nn.BatchNorm2d(32, momentum=BATCH_MOMENTUM)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(64, momentum=BATCH_MOMENTUM)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(64 * side * side, num_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        inner = images[..., 2:-2, 2:-2]  # (batch, 1, 24, 24)
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(inner), 2)))  # (batch, 32, 5, 5)
        x = F.relu(self.norm2(self.conv2(x)))  # (batch, 64, 3, 3)
        return self.linear(self.dropout(x.flatten(1)))


BATCH_MOMENTUM = 0.3
"""Of the running statistics: three times torch's, as a run may have a hundred steps."""

NUM_GROUPS = 8
"""Of channels that `DeepCnn` normalises together."""


class DeepCnn(nn.Module):
    """Six 3 x 3 convolutions, two for each of three resolutions, as in VGG, with group normalisation.

    Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (2015); Wu and
    He, Group Normalization (2018), which does not depend on the micro-batch. It has a hundred times `Cnn`'s
    work, and is meant for a GPU.
    """

    def __init__(
        self,
        dropout: float = 0.0,
        channels: int = 1,
        size: int = IMAGE_SIZE,
        num_classes: int = NUM_CLASSES,
        width: int = 64,
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        pairs = zip((channels, *widths), widths, strict=False)
        self.blocks = nn.ModuleList(nn.Sequential(_unit(a, b), _unit(b, b)) for a, b in pairs)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(widths[-1], num_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        first, *others = self.blocks
        x = first(images)  # (batch, width, size, size)
        for block in others:
            x = block(F.max_pool2d(x, 2))  # twice the channels, half the size
        return self.linear(self.dropout(x.amax(dim=(2, 3))))


def _unit(num_inputs: int, num_outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(num_inputs, num_outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(NUM_GROUPS, num_outputs), nn.ReLU())
