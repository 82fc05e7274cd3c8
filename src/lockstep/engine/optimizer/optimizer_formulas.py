"""The optimizers' formulas in plain arithmetic, to check the update of a step against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor, Mapping[str, Any], Mapping[str, Any]], list[Tensor]]
"""From θ and ∇θ before a step, the optimizer's state of θ before the step, and its parameter group, to θ
after the step. There are several answers if the formula can be rounded in several ways."""


def sgd(theta: Tensor, gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> list[Tensor]:
    """θ − η·v with v = μ·v + ∇θ + λ·θ, in θ's precision, once for each way to round.

    A multiply-add is rounded once (fused) or twice, and torch's kernels do both: on a CPU, full vectors are
    rounded in one way and the elements left over may be rounded in the other. So each element of torch's
    result has the bits of one of the answers.
    """
    answers = []
    for decay_once, momentum_once, rate_once in itertools.product((True, False), repeat=3):
        velocity = gradient
        if group["weight_decay"]:
            velocity = _multiply_add(theta, group["weight_decay"], velocity, round_once=decay_once)
        if state.get("momentum_buffer") is not None:
            buffer = state["momentum_buffer"]
            velocity = _multiply_add(buffer, group["momentum"], velocity, round_once=momentum_once)
        answers.append(_multiply_add(velocity, -group["lr"], theta, round_once=rate_once))
    return answers


def adam(theta: Tensor, gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> list[Tensor]:
    """θ − η·m̂ / (√v̂ + ε) in float64; Kingma and Ba, "Adam: a method for stochastic optimization" (2015)."""
    theta, gradient = theta.double(), gradient.double()
    return [_adam(theta, gradient + group["weight_decay"] * theta, state, group)]


def adamw(
    theta: Tensor, gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]
) -> list[Tensor]:
    """Adam of (1 − η·λ)·θ; Loshchilov and Hutter, "Decoupled weight decay regularization" (2019)."""
    shrunk = theta.double() * (1 - group["lr"] * group["weight_decay"])
    return [_adam(shrunk, gradient.double(), state, group)]


def off_formula(after: Tensor, answers: list[Tensor]) -> float:
    """The largest difference between θ after a step and the nearest of the formula's answers.

    It is in units in the last place (ulp) of θ's largest element: 0 means the same value, and correct
    rounding gives at most 0.5. NaN if θ is not finite.
    """
    differences = torch.stack([(after.double() - answer.double()).abs() for answer in answers])
    largest = after.abs().max().item()
    if not math.isfinite(largest):
        return math.nan
    smallest = torch.finfo(after.dtype).tiny  # so that an all-zero parameter has a unit too
    unit = 2.0 ** math.floor(math.log2(max(largest, smallest))) * torch.finfo(after.dtype).eps
    return differences.amin(dim=0).max().item() / unit


def _multiply_add(a: Tensor, factor: float, b: Tensor, *, round_once: bool) -> Tensor:
    """a·factor + b in a's precision, rounded once, like a fused multiply-add, or after each operation.

    Rounding once goes through float64, which holds the product of two float32 numbers exactly and their sum
    with an error far below float32's.
    """
    factor = torch.tensor(factor, dtype=a.dtype).item()  # rounded as the kernels round it
    if round_once:
        return (a.double() * factor + b.double()).to(a.dtype)
    return a * factor + b


def _adam(theta: Tensor, gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    beta1, beta2 = group["betas"]
    steps = float(state["step"]) + 1 if state else 1.0
    mean = (state["exp_avg"].double() if state else torch.zeros_like(theta)) * beta1 + gradient * (1 - beta1)
    square = state["exp_avg_sq"].double() if state else torch.zeros_like(theta)
    square = square * beta2 + gradient.square() * (1 - beta2)
    mean_hat, square_hat = mean / (1 - beta1**steps), square / (1 - beta2**steps)
    return theta - group["lr"] * mean_hat / (square_hat.sqrt() + group["eps"])
