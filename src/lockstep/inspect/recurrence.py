"""Measures what a recurrent layer does to the gradient as it flows back over its rows (time steps)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.data import MicroBatch, seed_generators
from lockstep.engine import Run, restored_buffers
from lockstep.task import compute_loss, share_of_mean, training_forward

SATURATED = 0.99
"""Above this, a tanh passes on less than 2 % of a gradient: its slope is 1 - tanh²."""


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """One nn.RNN or nn.GRU over the rows of a global batch."""

    name: str
    """Name of the module."""
    gradient_norms: list[float]
    """‖∂J/∂h‖ of each row's hidden states, over all samples of the global batch and all paths to the loss."""
    saturated: list[float]
    """Fraction of each row's hidden units with |h| > SATURATED."""
    spectral_norm: float
    """The largest singular value of weight_hh: the most that it can stretch a state by in one row."""


def measure_recurrences(run: Run, window: list[MicroBatch]) -> list[Recurrence]:
    """Measures each nn.RNN and nn.GRU with one layer and one direction. All ranks must call it.

    A fused layer does not expose the gradients between its rows. So each micro-batch is computed once more,
    with the layer called row by row. This changes neither `.grad` nor any state of the run.

    Args:
        run: the run, before the step that trains on the window.
        window: this rank's micro-batches.
    """
    recurrences = []
    for name, module in run.model.named_modules():
        is_plain = isinstance(module, nn.RNN | nn.GRU) and module.num_layers == 1 and not module.bidirectional
        if is_plain:
            with restored_buffers(run.model):
                local = [_row_sums(run, module, batch) for batch in window]  # each (rows, 3)
            everyone = [each for of_rank in run.ranks.gather_objects(local) for each in of_rank]
            if any(sums is None for sums, _ in everyone):
                continue  # the forward does not use it so
            sums = [each for each, _ in everyone if each is not None]
            # A loss that counts is a mean only once it is divided by what the global batch counts.
            count = sum(count for _, count in everyone) if run.traits.loss.has_own_count else 1.0
            squares, saturated, units = torch.stack(sums).sum(dim=0).unbind(dim=1)
            squares = squares / count**2
            weight: Any = module.weight_hh_l0
            recurrences.append(
                Recurrence(
                    name=name,
                    gradient_norms=squares.sqrt().tolist(),
                    saturated=(saturated / units).tolist(),
                    spectral_norm=torch.linalg.matrix_norm(weight.detach().to("cpu").float(), 2).item(),
                )
            )
    return recurrences


def _row_sums(run: Run, module: nn.RNN | nn.GRU, batch: MicroBatch) -> tuple[Tensor | None, float]:
    """Sums over one micro-batch, (rows, 3): squared gradients, saturated units, and all units; and its count.

    No sums, if the forward does not use the module, or not with a batch of sequences in one tensor.
    """
    states: list[Tensor] = []
    time = 1 if module.batch_first else 0

    def row_by_row(module: nn.Module, arguments: tuple[Any, ...], _: object) -> tuple[Tensor, Tensor] | None:
        if not (arguments and isinstance(arguments[0], Tensor) and arguments[0].dim() == 3):
            return None  # such as a PackedSequence: its output stays as it is
        inputs, state = arguments[0], arguments[1] if len(arguments) > 1 else None
        for row in inputs.split(1, dim=time):
            _, state = module.forward(row, state)
            if not state.requires_grad:  # everything before it is frozen
                state.requires_grad_()
            states.append(state)  # (1, batch, hidden): this row's output and the next row's initial state
        return torch.stack([state[0] for state in states], dim=time), states[-1]

    seed_generators(run.ranks.device, run.seed, "step", batch.step, batch.slot)
    handle = module.register_forward_hook(row_by_row)
    try:
        outputs, targets = training_forward(run.task, run.model, batch)
        share = share_of_mean(compute_loss(run.task, outputs, targets, batch.ids), batch)
    finally:
        handle.remove()
    scaler = run.ranks.accelerator.scaler
    scale = scaler.get_scale() if scaler is not None else 1.0  # else small fp16 gradients become 0
    count = 0.0 if share.count is None else share.count.item()
    if not states:
        return None, count
    gradients = torch.autograd.grad(share.total * scale, states)
    sums = []
    for state, gradient in zip(states, gradients, strict=True):
        is_saturated = state.detach().to("cpu").abs() > SATURATED
        sums.append(
            torch.stack(
                [
                    (gradient.to("cpu").double() / scale).square().sum(),
                    is_saturated.sum().double(),
                    torch.tensor(float(state[0].numel()), dtype=torch.float64),
                ]
            )
        )
    return torch.stack(sums), count
