"""The networks: each from normalised images (batch, 1, 28, 28) to logits (batch, 10).

None uses BatchNorm: its statistics depend on how a global batch is cut into micro-batches, and so the
numbers of a run would depend on the topology.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lockstep.config import ModelConfig
from lockstep.errors import refuse
from lockstep.keyed_random import Purpose, random_words, uniform
from lockstep.users_model import make_users_model

NUM_CLASSES = 10


class KeyedDropout(nn.Module):
    """Dropout whose mask is a pure function of (seed, layer, step, sample id): the same on any topology.

    The loop calls `draw_for` before each forward; in evaluation it does nothing, like torch's.
    """

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part = part
        self._key: tuple[int, int, int, Tensor] | None = None

    def draw_for(self, seed: int, layer: int, step: int, ids: Tensor) -> None:
        """States whose masks the next forward draws: sample ids (batch,) in a step."""
        vars(self)["_key"] = (seed, layer, step, ids)  # past nn.Module's search for parameters and buffers

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, units) to the same, a part of the units at 0 and the rest scaled up.

        Raises:
            ConfigError: the input has another shape.
        """
        if x.dim() != 2:
            raise refuse("KeyedDropout's input", tuple(x.shape), "must be (batch, units); flatten it first")
        if not self.training or self.part == 0:
            return x
        assert self._key is not None, "draw_for comes before each forward"
        seed, layer, step, ids = self._key
        blocks = torch.arange(-(-x.shape[1] // 4), device=x.device)
        words = random_words(seed, Purpose.DROPOUT + layer, step, ids.clamp(min=0)[:, None], blocks[None])
        draws = uniform(torch.stack(words, dim=2).flatten(1))[:, : x.shape[1]]  # (batch, units)
        return x * (draws >= self.part) / (1 - self.part)


class Cnn(nn.Module):
    """Two convolutions and two linear layers; max-pool before ReLU does a quarter of the comparisons."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 5)
        self.conv2 = nn.Conv2d(24, 32, 3)
        self.linear1 = nn.Linear(32 * 5 * 5, 256)
        self.dropout = KeyedDropout(dropout)
        self.linear2 = nn.Linear(256, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (batch, 24, 12, 12)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (batch, 32, 5, 5)
        x = F.relu(self.linear1(x.flatten(1)))  # (batch, 256)
        return self.linear2(self.dropout(x))


class StridedCnn(nn.Module):
    """A quarter of `Cnn`'s work: no border, a first convolution that steps by two pixels, one linear layer.

    MNIST's digits are scaled to 20 x 20 pixels and centred by mass, so the outer two rows and columns are
    all but empty. Per image and forward 0.29 million multiplications, against 1.24 million.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 6, stride=2)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout = KeyedDropout(dropout)
        self.linear = nn.Linear(64 * 3 * 3, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        inner = images[..., 2:-2, 2:-2]  # (batch, 1, 24, 24)
        x = F.relu(F.max_pool2d(self.conv1(inner), 2))  # (batch, 32, 5, 5)
        x = F.relu(self.conv2(x))  # (batch, 64, 3, 3)
        return self.linear(self.dropout(x.flatten(1)))


class Rnn(nn.Module):
    """Reads an image row by row, top to bottom, and answers after the last row: 28 → 128 → 10."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size=28, hidden_size=128, batch_first=True)
        self.dropout = KeyedDropout(dropout)
        self.head = nn.Linear(128, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.rnn(images.squeeze(1))  # (batch, 28, 128)
        return self.head(self.dropout(states[:, -1]))


class OrthogonalRnn(Rnn):
    """The same network with an orthogonal recurrence.

    It neither grows nor shrinks what it carries over 28 rows, so a gradient from the last row reaches the
    first: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks" (2013); Henaff, Szlam and LeCun, "Recurrent orthogonal networks" (2016).
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(parameter)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)


class Mlp(nn.Module):
    """784 → 256 → 128 → 10."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(28 * 28, 256)
        self.linear2 = nn.Linear(256, 128)
        self.dropout = KeyedDropout(dropout)
        self.linear3 = nn.Linear(128, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.linear1(images.flatten(1)))
        return self.linear3(self.dropout(F.relu(self.linear2(x))))


class RowFeatures(nn.Module):
    """Convolutions that turn an image into seven rows of features: (batch, 1, 28, 28) → (batch, 7, 168)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (batch, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (batch, 24, 7, 7)
        return x.permute(0, 2, 1, 3).flatten(2)  # (batch, 7 rows, 24 * 7)


class RowReader(nn.Module):
    """A GRU over rows of features, and the head on its last state: (batch, 7, 168) → (batch, 10)."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size=168, hidden_size=96, batch_first=True)
        self.dropout = KeyedDropout(dropout)
        self.head = nn.Linear(96, NUM_CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.gru(rows)  # (batch, 7, 96)
        return self.head(self.dropout(states[:, -1]))


class CnnGru(nn.Module):
    """Two modules, `cnn` and `gru`, that parameter groups can train at their own rates."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.cnn = RowFeatures()
        self.gru = RowReader(dropout)

    def forward(self, images: Tensor) -> Tensor:
        return self.gru(self.cnn(images))


MODELS: dict[str, Callable[[float], nn.Module]] = {
    "cnn": Cnn,
    "cnn-gru": CnnGru,
    "cnn-strided": StridedCnn,
    "mlp": Mlp,
    "rnn": Rnn,
    "rnn-orthogonal": OrthogonalRnn,
}


def build_model(config: ModelConfig, seed: int) -> nn.Module:
    """A network with initial weights that are a pure function of the seed; no generator is changed.

    Raises:
        ConfigError: there is no model of that name, or it is none that can be trained.
    """
    make: Callable[[], nn.Module]
    if config.name in MODELS:
        make = partial(MODELS[config.name], config.dropout)
    elif ":" in config.name:
        if config.dropout:
            raise refuse("model.dropout", config.dropout, "is for built-in models; put KeyedDropout in yours")
        make = partial(make_users_model, config.name, NUM_CLASSES)
    else:
        raise refuse(
            "model.name",
            config.name,
            f"must be one of {', '.join(MODELS)}, or your own as 'package.module:Class'",
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices' generators too
        return make()
