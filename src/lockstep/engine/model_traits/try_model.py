"""Tries a model out before step 1: what its forward uses and changes, and whether it repeats its bits."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.data import MicroBatch, generator_states, restored_generators, seed_generators, shapes_of
from lockstep.engine.model_traits.buffers import BufferRules, restore_buffers, restored_buffers
from lockstep.engine.model_traits.parameter_use import ParameterUse
from lockstep.errors import ConfigError, counted, first_line, refuse, short_message
from lockstep.task import dtype_remedy

NUM_SEEDS = 8
"""Trials of each micro-batch of a model that draws random numbers. One is not enough: of twelve blocks with a
drop rate that grows to a half, a single trial leaves out some trained block almost always."""

TrialLoss = Callable[[MicroBatch], Tensor]
"""From a micro-batch to the loss () that its backward starts from: a forward and the criterion."""


@dataclass(frozen=True, kw_only=True)
class LossForm:
    """What a task's loss returns for a batch."""

    has_own_count: bool = False
    """Whether it gives a sum and a count, such as of tokens, and so is not a mean over samples."""
    parts: tuple[str, ...] = ()
    """The names of the values that it gives besides the loss itself."""


@dataclass(frozen=True, kw_only=True)
class ModelTraits:
    """How a training forward uses the parameters and changes the buffers, and what the loss then returns.

    Fixed for a whole run.
    """

    use: ParameterUse
    rules: BufferRules
    loss: LossForm = field(default_factory=LossForm)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ModelTraits:
        """The traits that `dataclasses.asdict` has turned into a dict."""
        return cls(
            use=ParameterUse(**state["use"]),
            rules=BufferRules(**state["rules"]),
            loss=LossForm(**state["loss"]),
        )


@dataclass(frozen=True, kw_only=True)
class TryOut:
    """What trials of a model showed."""

    use: ParameterUse
    changed_buffers: tuple[str, ...]
    """Names of the buffers that a forward or backward in training mode changes."""
    differences: tuple[str, ...]
    """What two trials from equal seeds did differently, in words; empty if they had the same bits."""


def try_out(
    model: nn.Module,
    loss_of: TrialLoss,
    batches: list[MicroBatch],
    device: torch.device,
    seed: int,
    sometimes_used: tuple[str, ...],
) -> TryOut:
    """Runs a few micro-batches under several seeds; leaves parameters, buffers and generators as they were.

    Args:
        model: in training mode.
        loss_of: computes a micro-batch's loss.
        batches: some micro-batches of the first global batch.
        device: of the model.
        seed: of the run.
        sometimes_used: names or patterns of parameters that count as sometimes used in any case.

    Raises:
        ConfigError: the model has a gradient that cannot be summed.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    start = {name: buffer.clone() for name, buffer in model.named_buffers()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    counts = dict.fromkeys(trained, 0)
    changed: dict[str, None] = {}

    def trial(batch: MicroBatch, number: int) -> list[Tensor | None]:
        seed_generators(device, seed, "try out", number)
        loss = loss_of(batch)
        if not loss.requires_grad:
            rule = "does not depend on the model's parameters; return a tensor computed from the outputs"
            raise refuse("task.loss", f"a tensor {tuple(loss.shape)}", rule)
        loss.backward()
        gradients = [parameter.grad for parameter in trained.values()]
        for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
            if gradient is not None and gradient.layout is not torch.strided:
                raise refuse(
                    "model", name, f"has a {gradient.layout} gradient; use dense ones (sparse=False)"
                )
            parameter.grad = None
        for name, buffer in model.named_buffers():
            if not _equal(buffer, start.get(name)):
                changed[name] = None
        return [loss.detach(), *gradients, *(buffer.clone() for _, buffer in model.named_buffers())]

    def count_gradients(outcome: list[Tensor | None]) -> None:
        for name, gradient in zip(trained, outcome[1 : 1 + len(trained)], strict=True):
            counts[name] += gradient is not None

    for parameter in model.parameters():
        parameter.grad = None  # of what a program did with the model before
    with restored_generators(device):
        seed_generators(device, seed, "try out", 0)
        before_draws = generator_states(device)
        first = trial(batches[0], 0)  # seeds them in the same way
        num_seeds = NUM_SEEDS if generator_states(device) != before_draws else 1
        restore_buffers(model, start)
        second = trial(batches[0], 0)
        names = [
            "the loss",
            *(f"the gradient of {name}" for name in trained),
            *(f"buffer {n}" for n in start),
        ]
        differences = [name for name, a, b in zip(names, first, second, strict=False) if not _equal(a, b)]
        differences += [
            f"parameter {name} is changed by the forward"
            for name, parameter in model.named_parameters()
            if not torch.equal(parameter.detach(), before[name])
        ]
        trials = list(product(batches, range(num_seeds)))
        count_gradients(first)
        for batch, number in trials[1:]:
            restore_buffers(model, start)
            count_gradients(trial(batch, number))
        restore_buffers(model, start)
    return TryOut(
        use=ParameterUse.from_counts(counts, len(trials), sometimes_used),
        changed_buffers=tuple(changed),
        differences=tuple(differences),
    )


def check_sizes(
    model: nn.Module, loss_of: TrialLoss, batches: list[MicroBatch], field: str, model_name: str
) -> None:
    """Runs a training forward over a micro-batch of each size that the plan has, the whole one first.

    An error that an author's code raises, and not torch's, is the author's to fix and keeps its traceback.

    Args:
        model: in training mode.
        loss_of: computes a micro-batch's loss.
        batches: one of each size.
        field: the setting that names the model, for messages.
        model_name: its value.

    Raises:
        ConfigError: the data does not fit the model or the loss, or the short micro-batch at the end of an
            epoch is too small for the model.
    """
    whole = batches[0]
    for batch in batches:
        try:
            with restored_buffers(model), torch.no_grad():
                loss_of(batch)
        except Exception as error:
            if batch is whole:
                rule = misfit(error, "cannot compute the loss of a micro-batch", batch.inputs, batch.targets)
                if not rule:
                    raise
                remedy = dtype_remedy(model)
                raise refuse(field, model_name, f"{rule}; {remedy}" if remedy else rule) from error
            if has_own_message(error):
                raise
            raise refuse(
                "batch.micro_size",
                len(whole.ids),
                f"leaves {counted(len(batch.ids), 'sample')} for the last micro-batch of an epoch, and "
                f"{model_name} cannot train on so few ({short_message(error)}); change batch.micro_size "
                "or the number of samples, or drop them with --data.drop-last",
            ) from error


def misfit(error: Exception, what: str, inputs: Any, targets: Any) -> str:
    """Why torch fails with a batch, as the rule of a message; empty if the error has to stay as it is.

    Args:
        error: raised with the batch.
        what: could not be done.
        inputs: of the batch.
        targets: of the batch.
    """
    if has_own_message(error) or not _is_torchs(error):
        return ""
    return f"{what} (inputs {shapes_of(inputs)}, targets {shapes_of(targets)}): {first_line(error)}"


def has_own_message(error: BaseException) -> bool:
    """Whether an error says more than that data and model do not fit: a user's mistake, too little memory."""
    return isinstance(error, ConfigError) or is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left. torch has no type of its own for the host's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _is_torchs(error: Exception) -> bool:
    """Whether torch raised an error: it has torch's types, or comes out of torch's code. An author's own
    keeps its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error) in (RuntimeError, IndexError) or "torch" in Path(frames[-1].filename).parts


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    """The same bits, NaN included."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.equal(one, other):
        return True
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())
