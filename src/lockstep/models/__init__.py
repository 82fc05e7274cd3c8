"""What is learnt: networks, a user's own model, losses and metrics."""

from lockstep.models.buffers import BufferRules, buffer_rules, restored_buffers
from lockstep.models.build import MODELS, build_model
from lockstep.models.losses import Criterion, build_criterion, share_of_mean
from lockstep.models.metrics import Evaluation
from lockstep.models.parameter_use import ParameterUse
from lockstep.models.try_out import ModelTraits, check_sizes, try_out

__all__ = [
    "MODELS",
    "BufferRules",
    "Criterion",
    "Evaluation",
    "ModelTraits",
    "ParameterUse",
    "buffer_rules",
    "build_criterion",
    "build_model",
    "check_sizes",
    "restored_buffers",
    "share_of_mean",
    "try_out",
]
