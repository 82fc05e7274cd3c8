"""Copies of what a step starts from and of its gradient, taken while the step goes on."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lockstep.engine import Observer, Run


class StepSnapshot(Observer):
    """Of the newest step, copies on the CPU: the checks are in float64, which not every device has (MPS)."""

    def __init__(self) -> None:
        self.theta: dict[str, Tensor] = {}
        """Each parameter by name, before the step."""
        self.state: dict[Tensor, dict[str, Any]] = {}
        """Each parameter's optimizer state before the step, without what is not there yet."""
        self.gradients: dict[str, Tensor] = {}
        """Of the global batch, unscaled, before clipping; only of parameters that have one."""
        self.clipped: dict[str, Tensor] = {}
        """As the optimizer got them."""

    def on_step_begin(self, run: Run) -> None:
        self.theta = {name: copied(parameter) for name, parameter in run.model.named_parameters()}
        self.state = {
            parameter: {key: copied(value) for key, value in entry.items() if value is not None}
            for parameter, entry in run.optimizer.state.items()
        }

    def on_unscale(self, run: Run) -> None:
        self.gradients = _gradients(run)

    def on_clip(self, run: Run, grad_norm: Tensor) -> None:
        self.clipped = _gradients(run)


def copied(values: Tensor) -> Tensor:
    """A copy on the CPU, without its graph."""
    return values.detach().to("cpu", copy=True)


def _gradients(run: Run) -> dict[str, Tensor]:
    return {name: copied(p.grad) for name, p in run.model.named_parameters() if p.grad is not None}
