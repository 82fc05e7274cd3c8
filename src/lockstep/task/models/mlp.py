"""A fully connected network: from normalised images (batch, 1, 28, 28) to logits (batch, 10)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lockstep.config import IMAGE_SIZE, NUM_CLASSES


class Mlp(nn.Module):
    """784 → 256 → 128 → 10."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(IMAGE_SIZE**2, 256)
        self.linear2 = nn.Linear(256, 128)
        self.dropout = nn.Dropout(dropout)
        self.linear3 = nn.Linear(128, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.linear1(images.flatten(1)))
        return self.linear3(self.dropout(F.relu(self.linear2(x))))
