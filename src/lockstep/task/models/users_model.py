"""A user's own model, imported from the current folder."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lockstep.config import ModelConfig, check_arguments, import_reference
from lockstep.errors import require


def make_users_model(config: ModelConfig) -> nn.Module:
    """The model of 'package.module:Class', or of a function that returns one, made with model.args.

    An error in its constructor is its author's to fix and keeps its traceback.

    Raises:
        ConfigError: there is no such class or function, or it does not take these arguments.
    """
    model = find_users_model(config)(**config.args)
    rule = f"returns a {type(model).__name__}; it must return a torch.nn.Module"
    require(isinstance(model, nn.Module), "model.name", config.name, rule)
    return model


def find_users_model(config: ModelConfig) -> Callable[..., nn.Module]:
    """The class or function that makes the model.

    Raises:
        ConfigError: there is none, or it does not take these arguments.
    """
    make = import_reference("model.name", config.name)
    is_class = isinstance(make, type)
    is_maker = issubclass(make, nn.Module) if is_class else callable(make) and not isinstance(make, nn.Module)
    rule = "is neither a subclass of torch.nn.Module nor a function that returns a model; name one"
    require(is_maker, "model.name", config.name, rule)
    check_arguments("model.args", make, config.args)
    return make
