"""The networks by name, and their construction from a config.

None uses BatchNorm: its statistics depend on how a global batch is cut into micro-batches, and so the
numbers of a run would depend on the topology."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from lockstep.config import ModelConfig
from lockstep.errors import refuse
from lockstep.models.cnn import Cnn, StridedCnn
from lockstep.models.mlp import Mlp
from lockstep.models.rnn import CnnGru, OrthogonalRnn, Rnn
from lockstep.models.users_model import make_users_model

MODELS: dict[str, Callable[[float], nn.Module]] = {
    "cnn": Cnn,
    "cnn-gru": CnnGru,
    "cnn-strided": StridedCnn,
    "mlp": Mlp,
    "rnn": Rnn,
    "rnn-orthogonal": OrthogonalRnn,
}
"""Name → a function from the dropout probability to the network."""


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
        make = partial(make_users_model, config.name)
    else:
        raise refuse(
            "model.name",
            config.name,
            f"must be one of {', '.join(MODELS)}, or your own as 'package.module:Class'",
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices' generators too
        return make()
