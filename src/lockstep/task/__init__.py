"""What is learnt: the task, its models, losses and metrics, and the built-in task, digits."""

from lockstep.task.classification import (
    CONFIDENCE,
    LABEL,
    PREDICTION,
    accuracy,
    check_classes,
    check_labels,
    class_columns,
    confusion,
    is_classification,
    num_correct,
    worst_mistakes,
)
from lockstep.task.evaluation_result import Evaluation
from lockstep.task.image_classification import image_classification_task
from lockstep.task.losses import build_criterion
from lockstep.task.measurements import LOSS, Measure, Share, measure, named_values, share_of_mean
from lockstep.task.models.build import MODELS, build_model
from lockstep.task.models.dtypes import dtype_remedy
from lockstep.task.models.evaluation_mode import evaluating
from lockstep.task.models.image_shape import ImageShape
from lockstep.task.task import (
    Task,
    call_model,
    check_value_name,
    compute_loss,
    is_instance,
    measure_batch,
    training_forward,
)

__all__ = [
    "CONFIDENCE",
    "LABEL",
    "LOSS",
    "MODELS",
    "PREDICTION",
    "Evaluation",
    "ImageShape",
    "Measure",
    "Share",
    "Task",
    "accuracy",
    "build_criterion",
    "build_model",
    "call_model",
    "check_classes",
    "check_labels",
    "check_value_name",
    "class_columns",
    "compute_loss",
    "confusion",
    "dtype_remedy",
    "evaluating",
    "image_classification_task",
    "is_classification",
    "is_instance",
    "measure",
    "measure_batch",
    "named_values",
    "num_correct",
    "share_of_mean",
    "training_forward",
    "worst_mistakes",
]
