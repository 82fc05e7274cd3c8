"""What only classification has: accuracies, predictions, the confusion matrix, and the worst mistakes.

Outputs are logits (batch, classes), targets are class indices, int64 (batch,).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lockstep.errors import require
from lockstep.task.evaluation_result import Evaluation

LABEL = "label"
"""The column of an evaluation with the true class of each sample."""
PREDICTION = "prediction"
"""The column with the predicted class."""
CONFIDENCE = "confidence"
"""The column with the softmax probability of the predicted class."""


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 for each sample whose largest logit is its target's, otherwise 0: float32 (batch,)."""
    return (outputs.argmax(dim=1) == targets).float()


def top5_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 for each sample whose target is among its five largest logits, otherwise 0: float32 (batch,)."""
    return (outputs.topk(5, dim=1).indices == targets[:, None]).any(dim=1).float()


def class_columns(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The columns of a batch, each (batch,)."""
    predictions = outputs.argmax(dim=1)
    confidences = outputs.float().softmax(dim=1).gather(1, predictions[:, None])[:, 0]
    return {LABEL: targets, PREDICTION: predictions, CONFIDENCE: confidences}


def check_classes(outputs: Any, targets: Any, num_classes: int) -> None:
    """Checks that outputs and targets have the form of a classification's; see `check_labels` for the values.

    Raises:
        ConfigError: they are not logits (batch, num_classes) and class indices (batch,).
    """
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    rule = f"with {num_classes} classes the model must return logits (batch, {num_classes}), not {shape}"
    is_logits = isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] == num_classes
    require(is_logits, "task.classes", num_classes, rule)
    is_labels = isinstance(targets, Tensor) and targets.dim() == 1 and not targets.is_floating_point()
    shown = (
        f"{tuple(targets.shape)} {targets.dtype}" if isinstance(targets, Tensor) else type(targets).__name__
    )
    rule = f"targets must be class indices, integers (batch,), not {shown}"
    require(is_labels, "task.classes", num_classes, rule)


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Checks that labels, integers (samples,), are class indices. Waits for their device.

    Raises:
        ConfigError: one of them is not.
    """
    low, high = int(labels.min()), int(labels.max())
    rule = f"targets must be classes from 0 to {num_classes - 1}, but there is a {low if low < 0 else high}"
    require(low >= 0 and high < num_classes, "task.classes", num_classes, rule)


def is_classification(evaluation: Evaluation) -> bool:
    """Whether an evaluation has the columns of classification."""
    return LABEL in evaluation.columns and PREDICTION in evaluation.columns


def num_correct(evaluation: Evaluation) -> int:
    """Samples whose prediction is their label."""
    return int((evaluation.columns[PREDICTION] == evaluation.columns[LABEL]).sum())


def confusion(evaluation: Evaluation, num_classes: int) -> Tensor:
    """Number of samples by label and prediction, int64 (label, prediction)."""
    cells = evaluation.columns[LABEL].long() * num_classes + evaluation.columns[PREDICTION].long()
    return cells.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


def worst_mistakes(evaluation: Evaluation, count: int) -> list[int]:
    """Indices of misclassified samples, the highest loss first, at most `count` of them.

    Without a loss for each sample, the most confident mistakes come first.
    """
    columns: Any = evaluation.columns
    wrong = (columns[PREDICTION] != columns[LABEL]).nonzero().flatten()
    badness = columns.get("loss", columns[CONFIDENCE])
    return wrong[badness[wrong].argsort(descending=True, stable=True)][:count].tolist()
