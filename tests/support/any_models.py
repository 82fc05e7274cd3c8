"""Models that users might bring, each with something that usually depends on the topology."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18


class Resnet(nn.Module):
    """The first half of torchvision's resnet18, whose BatchNorm keeps running statistics and counters.

    Its last two stages are the same in wide: 94 % of the parameters.
    """

    def __init__(self):
        super().__init__()
        self.net = resnet18(num_classes=10)
        self.net.conv1 = nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False)
        self.net.layer3 = self.net.layer4 = nn.Identity()
        self.net.fc = nn.Linear(128, 10)

    def forward(self, images):
        return self.net(images)


class Transformer(nn.Module):
    """F.dropout, stochastic depth and activation checkpointing: a block may get no gradient."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(28, 32)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True) for _ in range(3)
        )
        self.head = nn.Linear(32, 10)
        self.unused = nn.Linear(4, 4)

    def forward(self, images):
        rows = F.dropout(self.embed(images.squeeze(1)), 0.1, self.training)
        for block in self.blocks:
            if not self.training or torch.rand(()) < 0.7:
                rows = checkpoint(block, rows, use_reentrant=False)
        return self.head(rows.mean(dim=1))


class SpectralNorm(nn.Module):
    """Two kinds of spectral normalization, whose power iteration changes buffers."""

    def __init__(self):
        super().__init__()
        self.one = nn.utils.parametrizations.spectral_norm(nn.Linear(784, 32))
        self.two = nn.utils.spectral_norm(nn.Linear(32, 10))

    def forward(self, images):
        return self.two(self.one(images.flatten(1)).relu())


class Lstm(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 24, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, images):
        return self.head(self.lstm(images.squeeze(1))[0][:, -1])


class Embedding(nn.Module):
    """Looks up one vector per pixel level."""

    def __init__(self):
        super().__init__()
        self.levels = nn.Embedding(8, 4)
        self.head = nn.Linear(49 * 4, 10)

    def forward(self, images):
        levels = F.avg_pool2d(images, 4).flatten(1).add(1).mul(2).long().clamp(0, 7)
        return self.head(self.levels(levels).flatten(1))


class MixedDtypes(nn.Module):
    """float32 norms in a bfloat16 model."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(784, 64).bfloat16(), nn.Linear(64, 10).bfloat16()
        self.norm = nn.LayerNorm(64)

    def forward(self, images):
        hidden = self.one(images.flatten(1).bfloat16())
        return self.two(self.norm(hidden.float()).relu().bfloat16()).float()


class NumpyNoise(nn.Module):
    """Draws from NumPy's global generator."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images):
        pixels = images.flatten(1)
        if self.training:
            noise = torch.from_numpy(np.random.normal(0, 0.1, tuple(pixels.shape)))
            pixels = pixels + noise.float().to(pixels.device)
        return self.linear(pixels)


class Double(nn.Module):
    """float64, and a complex weight."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10).double()
        self.phase = nn.Parameter(torch.ones(10, dtype=torch.complex128))

    def forward(self, images):
        return (self.linear(images.flatten(1).double()) * self.phase).real


class OwnGenerator(nn.Module):
    """Draws from a generator of its own, which no seed reaches."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images):
        noise = torch.rand(images.flatten(1).shape, generator=self.generator)
        return self.linear(images.flatten(1) + 0.1 * noise * self.training)


class LateLayer(nn.Module):
    """Uses a layer only from the moment on that a test says so."""

    is_used = False

    def __init__(self):
        super().__init__()
        self.linear, self.late = nn.Linear(784, 10), nn.Linear(784, 10)

    def forward(self, images):
        pixels = images.flatten(1)
        return self.linear(pixels) + (self.late(pixels) if type(self).is_used else 0)


class SmallBatch(nn.Module):
    """BatchNorm over one sample raises."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(784, 10), nn.BatchNorm1d(10)

    def forward(self, images):
        return self.norm(self.linear(images.flatten(1)))


class RunningPeak(nn.Module):
    """A buffer that is no average."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.register_buffer("peak", torch.zeros(10))

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        if self.training:
            self.peak = torch.maximum(self.peak, logits.detach().amax(dim=0))
        return logits


class NoDeterministicForm(nn.Module):
    """Uses an operation of which torch says that it has no deterministic form, on a CPU too."""

    def __init__(self, in_evaluation=False):
        super().__init__()
        self.in_evaluation = in_evaluation
        self.linear = nn.Linear(28 * 28, 10)

    def forward(self, images):
        outputs = self.linear(images.flatten(1))
        if self.training != self.in_evaluation:
            outputs = outputs.put(torch.zeros(1, dtype=torch.long), torch.zeros(1))
        return outputs


class OddSizes(nn.Module):
    """Parameters of odd sizes, so that packed side by side they would not be aligned."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.linear = nn.Linear(3 * 26 * 26, 10)

    def forward(self, images):
        return self.linear(self.conv(images).relu().flatten(1))


class HostNoise(nn.Module):
    """Draws a number from Python's generator in its forward."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images):
        return self.linear(images.flatten(1)) * (1 + 0.1 * random.random())


class WaitsForTheDevice(nn.Module):
    """Looks at a number on the device in its forward."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images):
        outputs = self.linear(images.flatten(1))
        return outputs * 0.5 if outputs.abs().max().item() > 1e6 else outputs


class DropoutLstm(nn.Module):
    """Two layers with dropout between them, which cuDNN draws."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 16, num_layers=2, dropout=0.3, batch_first=True)
        self.linear = nn.Linear(16, 10)

    def forward(self, images):
        outputs, _ = self.lstm(images.squeeze(1))
        return self.linear(outputs[:, -1])
