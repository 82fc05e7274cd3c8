"""A fully connected network: from images (batch, channels, size, size) to logits (batch, classes)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lockstep.config import IMAGE_SIZE, NUM_CLASSES


class Mlp(nn.Module):
    """784 → 256 → 128 → 10 for images of 28 x 28 pixels in ten classes."""

    def __init__(
        self, dropout: float = 0.0, channels: int = 1, size: int = IMAGE_SIZE, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels * size**2, 256)
        self.linear2 = nn.Linear(256, 128)
        self.dropout = nn.Dropout(dropout)
        self.linear3 = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.linear1(images.flatten(1)))
        return self.linear3(self.dropout(F.relu(self.linear2(x))))
