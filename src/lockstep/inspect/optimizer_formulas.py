"""What an optimizer's formula makes of a parameter, computed anew by plain arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor, Mapping[str, Any], Mapping[str, Any]], list[Tensor]]
"""From θ and ∇θ before a step, the optimizer's state of θ before it, and its group, to θ after it; several
where the formula leaves the rounding open."""


def sgd(theta: Tensor, gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> list[Tensor]:
    """θ − η·v with v = μ·v + ∇θ + λ·θ, in θ's precision, once for each way to round it.

    A multiply-add may be rounded once (fused) or twice, and torch's kernels do either: on a CPU, whole
    vectors do the one and what is left over may do the other. So each number of torch's has the bits of one
    of the answers.
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


FORMULAS: dict[str, Formula] = {"sgd": sgd, "adam": adam, "adamw": adamw}


def off_formula(after: Tensor, answers: list[Tensor]) -> float:
    """The largest difference between θ after a step and the formula's answers, the nearest one each time.

    In units in the last place of θ's largest entry: 0 means the same bits, and a correct rounding is 0.5.
    """
    differences = torch.stack([(after.double() - answer.double()).abs() for answer in answers])
    largest = after.abs().max().item()
    if not math.isfinite(largest):
        return math.nan
    smallest = torch.finfo(after.dtype).tiny  # so that a parameter of zeros has a unit too
    unit = 2.0 ** math.floor(math.log2(max(largest, smallest))) * torch.finfo(after.dtype).eps
    return differences.amin(dim=0).max().item() / unit


def _multiply_add(a: Tensor, factor: float, b: Tensor, *, round_once: bool) -> Tensor:
    """a·factor + b in a's precision, rounded once as a fused multiply-add does, or after each operation.

    Once: float64 holds the product of two float32 numbers whole, and the sum to far below their rounding.
    """
    factor = torch.tensor(factor, dtype=a.dtype).item()  # as the kernels round it
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
