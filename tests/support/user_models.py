"""Models that a user might write."""

import os
import random
import time

import numpy
import torch
from torch import nn
from torch.nn import functional

from lockstep.task.models.mlp import Mlp


class FailsOnRankOne(Mlp):
    """Raises on rank 1 in its third forward, the second of training."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        if os.environ.get("RANK") == "1" and self.calls == 3:
            raise RuntimeError("boom in the user's model")
        return super().forward(images)


class NormAndDropout(nn.Module):
    """BatchNorm, whose running statistics change in each forward, and F.dropout."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 64, 10)

    def forward(self, images):
        features = functional.relu(self.norm(self.conv(images)))
        return self.head(functional.dropout(features.flatten(1), 0.2, self.training))


class Slow(Mlp):
    """Takes a minute for each training forward after the first step: the trials before it are quick."""

    start = None

    def forward(self, images):
        if self.start is None:
            self.start = self.linear1.bias.detach().clone()
        if self.training and not self.linear1.bias.equal(self.start):
            time.sleep(60)
        return super().forward(images)


def paced(step, num_steps):
    """A constant schedule for a run that lasts without computing: at most ten steps a second."""
    time.sleep(0.1)
    return 1.0


class ForwardsTwice(Mlp):
    """Calls itself a second time on rank 1, as a model that scores its own output might."""

    is_inner = False

    def forward(self, images):
        if os.environ.get("RANK") == "1" and not self.is_inner:
            self.is_inner = True
            self(images)
            self.is_inner = False
        return super().forward(images)


class Broken(Mlp):
    """Raises in its first forward in training."""

    def forward(self, images):
        if self.training:
            raise RuntimeError("boom in the user's model")
        return super().forward(images)


class NeedsASize(Mlp):
    def __init__(self, size):
        super().__init__()


class Sized(Mlp):
    """Is for images of another size, by default."""

    def __init__(self, size=8):
        super().__init__(size=size)


class Lazy(nn.Module):
    """Learns its sizes from the first images, with a BatchNorm between."""

    def __init__(self, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(width), nn.LazyBatchNorm1d(), nn.LazyLinear(10)
        )

    def forward(self, images):
        return self.layers(images)


class UnusedLazy(Mlp):
    def __init__(self):
        super().__init__()
        self.unused = nn.LazyLinear(10)


def make_mlp(scale=1.0):
    """Scales the weights, with noise of every generator."""
    model = Mlp()
    with torch.no_grad():
        model.linear1.weight.mul_(scale).add_(random.random()).add_(float(numpy.random.rand()))
    return model


def make_nothing():
    return None


EXISTING = nn.Linear(2, 2)


class Synced(Mlp):
    def __init__(self):
        super().__init__()
        self.norm = nn.SyncBatchNorm(4)


class FrozenNorm(Mlp):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4).eval()


class ExtraState(Mlp):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


class Features(Mlp):
    def forward(self, images):
        return images.flatten(1)


class Pair(Mlp):
    def forward(self, images):
        return super().forward(images), images


class Frozen(Mlp):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)
