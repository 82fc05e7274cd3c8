"""The best-known quick recipe for 99 % on MNIST, in bare PyTorch: the baseline of the speed run.

The one-cycle version of github.com/tuomaso/train_mnist_fast: one full epoch in batches of 128, with images
already on the device as normalised tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import seconds_of
from lockstep.data import ImageStore, normalised

BATCH_SIZE = 128


class QuickNet(nn.Module):
    """(batch, 1, 28, 28) → (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 5)
        self.conv2 = nn.Conv2d(24, 32, 3)
        self.linear1 = nn.Linear(32 * 5 * 5, 256)
        self.linear2 = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(images), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.linear2(F.relu(self.linear1(x.flatten(1))))


def train_quick_recipe(
    train: ImageStore, test: ImageStore, seed: int, memory_format: torch.memory_format
) -> tuple[float, float]:
    """Trains one epoch; returns its seconds and the test accuracy after it."""
    torch.manual_seed(seed)
    device = train.labels.device
    model = QuickNet().to(device).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
    num_steps = -(-len(train.labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.01, total_steps=num_steps, cycle_momentum=False
    )
    images, labels = normalised(train.images), train.labels

    def epoch() -> None:
        for ids in torch.randperm(len(labels), device=device).split(BATCH_SIZE):
            optimizer.zero_grad()
            batch = images[ids].contiguous(memory_format=memory_format)
            F.cross_entropy(model(batch), labels[ids]).backward()
            optimizer.step()
            schedule.step()

    seconds = seconds_of(epoch)
    model.eval()
    with torch.inference_mode():
        test_images, test_labels = normalised(test.images), test.labels
        correct = [
            (model(chunk).argmax(1) == targets).sum().item()
            for chunk, targets in zip(test_images.split(1000), test_labels.split(1000), strict=True)
        ]
    return seconds, sum(correct) / len(test_labels)
