"""The weights of another run as the initial ones of a new run: `--init-from`, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lockstep.config import ModelConfig
from lockstep.errors import refuse, require
from lockstep.launch.ranks.ranks import Ranks
from lockstep.report import say
from lockstep.runs.checkpoints.weights import read_weights
from lockstep.tracking.artifacts.artifact_download import PREFIX, artifact_weights

OPTION = "--init-from"
NUM_LISTED = 6
"""How many tensors of a kind are listed by name."""


def take_initial_weights(config: ModelConfig, model: nn.Module, ranks: Ranks) -> None:
    """Gives the model of a new run the weights that model.init_from names, if any. All ranks must call it.

    Raises:
        ConfigError: on every rank, if there are no such weights, or they do not fit.
    """
    word = config.init_from
    if not word:
        return

    def read() -> dict[str, Tensor]:
        return (
            artifact_weights(word, OPTION) if word.startswith(PREFIX) else read_weights(word, OPTION).tensors
        )

    weights = ranks.on_main(read)
    lines = ranks.on_all(lambda: load_initial(model, weights, word, partial=config.init_partial))
    for line in lines if ranks.is_main else ():
        say(line)


def load_initial(model: nn.Module, weights: Mapping[str, Tensor], word: str, *, partial: bool) -> list[str]:
    """Gives a model other weights.

    Args:
        model: of the new run.
        weights: by name.
        word: where they are from, for messages.
        partial: whether to take those whose name and shape fit, and leave the others.

    Returns:
        Lines for the user: how many were taken, and which were not.

    Raises:
        ConfigError: none fits, or (unless `partial`) not all do.
    """
    own = model.state_dict()
    shapes = [
        f"{name} {tuple(weights[name].shape)} → {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    fitting = {
        name: value for name, value in weights.items() if name in own and own[name].shape == value.shape
    }
    misfits = {
        "of another shape": shapes,
        "that the model lacks": [name for name in weights if name not in own],
        "that only the model has": [name for name in own if name not in weights],
    }
    told = "; ".join(f"{_listed(names)} {why}" for why, names in misfits.items() if names)
    require(bool(fitting), OPTION, word, f"holds nothing that fits the model ({told}); name another run")
    if told and not partial:
        raise refuse(OPTION, word, f"does not fit the model: {told}; --model.init-partial takes what fits")
    model.load_state_dict(fitting, strict=False)
    taken = f"initial weights: {len(fitting)} of {len(own)} tensors from {word}"
    return [taken, *([f"not taken: {told}"] if told else [])]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NUM_LISTED} more" if len(names) > NUM_LISTED else ""
    return ", ".join(names[:NUM_LISTED]) + more
