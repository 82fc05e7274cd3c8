"""What is learnt: networks, a user's own model, losses and metrics."""

from lockstep.models.build import MODELS, build_model
from lockstep.models.keyed_dropout import KeyedDropout, draw_masks
from lockstep.models.losses import Criterion, build_criterion, share_of_mean
from lockstep.models.metrics import Evaluation
from lockstep.models.users_model import topology_warnings

__all__ = [
    "MODELS",
    "Criterion",
    "Evaluation",
    "KeyedDropout",
    "build_criterion",
    "build_model",
    "draw_masks",
    "share_of_mean",
    "topology_warnings",
]
