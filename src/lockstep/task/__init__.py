"""What is learnt: the models, the losses, and how an evaluation is scored."""

from lockstep.task.evaluation import Evaluation
from lockstep.task.losses import Criterion, build_criterion, share_of_mean
from lockstep.task.models.build import MODELS, build_model
from lockstep.task.models.image_shape import ImageShape

__all__ = [
    "MODELS",
    "Criterion",
    "Evaluation",
    "ImageShape",
    "build_criterion",
    "build_model",
    "share_of_mean",
]
