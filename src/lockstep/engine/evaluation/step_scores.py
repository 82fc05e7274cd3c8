"""What a logged step measures in its micro-batches: sums and counts, so that no outputs need to be kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lockstep.engine.model_traits.try_model import LossForm
from lockstep.errors import refuse
from lockstep.task import LOSS, Measure, Task, measure_batch, named_values


class StepScores:
    """The parts of the loss and the metrics of one rank's micro-batches in a step."""

    def __init__(self, task: Task, loss_form: LossForm) -> None:
        self._parts = loss_form.parts
        self.names = [*loss_form.parts, *task.metrics]
        """The parts of the loss, then the metrics."""
        self._task = task
        self._rows: list[Tensor] = []

    def add(self, outputs: Any, targets: Any, loss: Any, num_samples: int) -> None:
        """Measures one micro-batch.

        Args:
            outputs: what the model returned.
            targets: what they are compared with.
            loss: what the task's loss returned.
            num_samples: samples in the micro-batch.

        Raises:
            ConfigError: a metric or a part of the loss has none of the forms of a measurement.
        """
        parts = named_values("task.loss", loss)
        if set(parts) != {LOSS, *self._parts}:
            rule = f"must have the same parts each time: {', '.join((LOSS, *self._parts))}"
            raise refuse("task.loss", f"parts {', '.join(parts)}", rule)
        with torch.no_grad():
            measures = measure_batch(self._task, outputs, targets, parts, num_samples)
            pairs = [_pair(measures[name]) for name in self.names]
        if pairs:
            self._rows.append(torch.stack([pair.to(pairs[0].device) for pair in pairs]))

    def add_row(self, row: Tensor) -> None:
        """Adds what was measured in one micro-batch, (names, 2)."""
        self._rows.append(row)

    def last_row(self) -> Tensor | None:
        """What was measured in the last micro-batch, (names, 2); None if there is nothing to measure."""
        return self._rows[-1] if self._rows else None

    def rows(self, window: int, device: torch.device) -> Tensor:
        """(sum, count) per slot and name, float32 (window, names, 2); zeros stand for empty slots."""
        rows = torch.zeros(window, len(self.names), 2, device=device)
        if self._rows:
            rows[: len(self._rows)] = torch.stack(self._rows).to(device)
        return rows


def _pair(value: Measure) -> Tensor:
    """(sum, count), float32 (2,), on the device of the sum."""
    total = value.total.float()
    count = value.count if isinstance(value.count, Tensor) else total.new_full((), value.count)
    return torch.stack([total, count.to(total)])
