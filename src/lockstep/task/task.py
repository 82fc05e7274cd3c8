"""A task says what is learnt: model, data, loss and metrics. It knows neither ranks nor steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.data import default_collate

from lockstep.data import Collate, MicroBatch
from lockstep.errors import DataError, require
from lockstep.task.measurements import LOSS, Measure, measure

RESERVED_PREFIXES = ("test_", "validation_", "ema_")
"""Begin the names of evaluated values in records."""
RESERVED = (
    *(LOSS, "step", "epoch", "samples_seen", "grad_norm", "loss_scale", "skipped_steps", "weights_digest"),
    *("samples_per_second", "data_seconds", "compute_seconds", "communication_seconds", "samples"),
    *("peak_host_bytes", "peak_device_bytes"),
    *("label", "prediction", "confidence", "confusion"),
)
"""Names that records, summaries or evaluations use themselves."""

OUT_OF_BOUNDS = re.compile(r"Target (-?\d+) is out of bounds\.?")
"""What torch's cross_entropy and nll_loss say on a CPU."""

Measurement = Callable[[Any, Any], Any]
"""From the outputs of a model and the targets of a batch to one number per sample (batch,), their mean (), or
a pair (sum, count), such as the summed loss of all tokens and their number."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learnt, for `lockstep.train`. How it is trained is said by a `Config`.

    `model`, `train` and `test` are functions without arguments, or instances. Functions are better: they are
    called under the run's seed, so that every process makes the same model and data. Instances are compared
    between the processes.
    """

    name: str
    """Part of the run's name."""
    model: nn.Module | Callable[[], nn.Module]
    """The model. It is called with the inputs of a batch: a dict as keyword arguments, anything else as the
    only argument."""
    train: Any
    """The training data, or a function that makes it: a map-style Dataset whose samples are pairs (input,
    target), each a tensor, number, array, or a tree of these."""
    test: Any = None
    """The test data, in the same way. With validation data it is scored once, at the end; without, the
    evaluations of a run show it as it trains. None: there is none."""
    validation: Any = None
    """Data to choose the best checkpoint by, in the same way. None: `data.validation` may hold out a part of
    the training data, else no checkpoint is the best."""
    loss: Measurement
    """The loss of a batch. Or a dict of several values by name: 'loss' is minimised, all are logged."""
    metrics: Mapping[str, Measurement] = field(default_factory=dict)
    """What else is measured in evaluations and logged steps, by name. The order of names is kept."""
    headline: str = LOSS
    """The loss or metric that decides which checkpoint is the best (on the validation data), and by which
    runs are compared."""
    higher_is_better: bool = False
    """Whether a higher headline value is the better one."""
    classes: Sequence[str] = ()
    """The names of the classes, if this is a classification: outputs are logits (batch, classes) and targets
    class indices (batch,). Evaluations then get a confusion matrix."""
    augment: Callable[[Any, Any], tuple[Any, Any]] | None = None
    """Changes the inputs and targets of a training micro-batch on the device, at random if it likes: torch's,
    NumPy's and Python's generators are seeded for each micro-batch."""
    collate: Collate = default_collate
    """Makes a batch of several samples."""
    preprocess: Callable[[Any], Any] | None = None
    """From the `Path` of a file to the input of one sample, as the test data has it: what `lockstep predict`
    reads. Images have one already, if this is the built-in task."""
    parameter_groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None
    """From the model to the optimizer's parameter groups, in torch's form: 'params', and optionally 'lr',
    'name' and what else the optimizer takes. Parameters in no group are not trained."""

    def __post_init__(self) -> None:
        is_one_word = bool(self.name) and not set(self.name) & set("/:\\") and self.name not in (".", "..")
        rule = "must be a name without '/' and ':', as it becomes part of a folder's name"
        require(is_one_word, "task.name", self.name, rule)
        for name in ("model", "train", "loss"):
            value = getattr(self, name)
            is_fine = callable(value) or (name == "train" and hasattr(value, "__getitem__"))
            kinds = "a function" if name == "loss" else "an instance, or a function that makes one"
            require(is_fine, f"task.{name}", type(value).__name__, f"must be {kinds}")
        for name, metric in self.metrics.items():
            rule = "must be a function of outputs and targets"
            require(callable(metric), f"task.metrics[{name}]", type(metric).__name__, rule)
            check_value_name("task.metrics", name)
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        values = [LOSS, *self.metrics]
        rule = f"must be one of {', '.join(values)}"
        require(self.headline in values, "task.headline", self.headline, rule)


def check_value_name(field: str, name: Any) -> None:
    """Checks the name of a metric or of a part of a loss.

    Raises:
        ConfigError: a record has another value of that name.
    """
    is_free = isinstance(name, str) and name.isidentifier() and name not in RESERVED
    is_free = is_free and not name.startswith(RESERVED_PREFIXES)
    require(is_free, field, name, "must be a Python name that no other value of a record has; choose another")


def is_instance(part: Any) -> bool:
    """Whether a task's model or data is given itself, not as a function that makes it."""
    if isinstance(part, type):
        return False
    return isinstance(part, nn.Module) or hasattr(part, "__getitem__") or not callable(part)


def measure_batch(
    task: Task, outputs: Any, targets: Any, loss: Mapping[str, Any], num_samples: int
) -> dict[str, Measure]:
    """The loss, its parts and the metrics of a batch by name.

    Args:
        task: gives the metrics.
        outputs: what the model returned.
        targets: what they are compared with.
        loss: what the task's loss returned, by name; see `named_values`.
        num_samples: samples in the batch.

    Raises:
        ConfigError: one of them has none of the forms of a measurement.
    """
    fields = {name: (f"task.loss[{name}]", value) for name, value in loss.items()}
    fields[LOSS] = "task.loss", loss[LOSS]
    for name, metric in task.metrics.items():
        fields[name] = f"task.metrics[{name}]", metric(outputs, targets)
    return {name: measure(field, value, num_samples) for name, (field, value) in fields.items()}


def call_model(model: Callable[..., Any], inputs: Any) -> Any:
    """The outputs of a model for the inputs of a batch."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def compute_loss(task: Task, outputs: Any, targets: Any, ids: Tensor | None = None) -> Any:
    """What the loss of a task returns for a batch.

    Args:
        task: gives the loss.
        outputs: what the model returned.
        targets: what they are compared with.
        ids: of the samples, for messages, int64 (batch,).

    Raises:
        DataError: torch finds a class index without an output of the model.
    """
    try:
        return task.loss(outputs, targets)
    except IndexError as error:
        if not (found := OUT_OF_BOUNDS.fullmatch(str(error))):
            raise
        who = "a sample"
        if ids is not None and isinstance(targets, Tensor) and targets.shape == ids.shape:
            who = f"sample {int(ids[targets == int(found[1])][0])}"
        raise DataError(
            f"task.loss: {who} has the target {found[1]}, but the model has no such output; give it one for "
            "each class, and number classes from 0 (with task.classes all labels are checked before training)"
        ) from error


def training_forward(task: Task, model: Callable[..., Any], batch: MicroBatch) -> tuple[Any, Any]:
    """The outputs of a model for a micro-batch, augmented as the task says, and their targets."""
    inputs, targets = batch.inputs, batch.targets
    if task.augment is not None:
        inputs, targets = task.augment(inputs, targets)
    return call_model(model, inputs), targets
