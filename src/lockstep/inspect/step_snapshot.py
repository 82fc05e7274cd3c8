"""Copies what a step starts from, and its gradient, while the step runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lockstep.engine import Observer, Run


class StepSnapshot(Observer):
    """Copies of the latest step, on the CPU: the checks use float64, which not every device has (MPS)."""

    def __init__(self) -> None:
        self.theta: dict[str, Tensor] = {}
        """Each parameter, by name, before the step."""
        self.state: dict[Tensor, dict[str, Any]] = {}
        """Each parameter's optimizer state before the step, without entries that do not exist yet."""
        self.gradients: dict[str, Tensor] = {}
        """Gradients of the global batch, by name, unscaled, before clipping."""
        self.clipped: dict[str, Tensor] = {}
        """Gradients as passed to the optimizer, by name."""

    def on_step_begin(self, run: Run) -> None:
        self.theta = {name: cpu_copy(parameter) for name, parameter in run.model.named_parameters()}
        self.state = {
            parameter: {key: cpu_copy(value) for key, value in entry.items() if value is not None}
            for parameter, entry in run.optimizer.state.items()
        }

    def on_unscale(self, run: Run) -> None:
        self.gradients = _gradients(run)

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        self.clipped = _gradients(run)


def cpu_copy(values: Tensor) -> Tensor:
    """A copy on the CPU, without its graph."""
    return values.detach().to("cpu", copy=True)


def _gradients(run: Run) -> dict[str, Tensor]:
    return {name: cpu_copy(p.grad) for name, p in run.model.named_parameters() if p.grad is not None}
