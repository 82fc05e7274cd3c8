"""The networks by name, and their construction from a config."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lockstep.config import ModelConfig
from lockstep.task.models.cnn import Cnn, StridedCnn
from lockstep.task.models.mlp import Mlp
from lockstep.task.models.rnn import CnnGru, OrthogonalRnn, Rnn
from lockstep.task.models.users_model import make_users_model

MODELS: dict[str, Callable[[float], nn.Module]] = {
    "cnn": Cnn,
    "cnn-strided": StridedCnn,
    "cnn-gru": CnnGru,
    "mlp": Mlp,
    "rnn": Rnn,
    "rnn-orthogonal": OrthogonalRnn,
}
"""Name → a function from the dropout probability to the network."""


def build_model(config: ModelConfig, seed: int) -> nn.Module:
    """A network whose initial weights are a pure function of the seed. Leaves all generators as they were.

    Raises:
        ConfigError: the user's own model cannot be imported or trained.
    """
    is_users_own = ":" in config.name
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices' generators too
        return make_users_model(config.name) if is_users_own else MODELS[config.name](config.dropout)
