"""What is learnt: networks, a user's own model, losses and metrics."""

from lockstep.models.build import MODELS, build_model
from lockstep.models.losses import Criterion, build_criterion, share_of_mean
from lockstep.models.metrics import Evaluation

__all__ = [
    "MODELS",
    "Criterion",
    "Evaluation",
    "build_criterion",
    "build_model",
    "share_of_mean",
]
