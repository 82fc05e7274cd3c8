"""How a measured value is shown: a fraction such as an accuracy in percent, anything else as a number."""

from __future__ import annotations


def is_fraction_correct(name: str) -> bool:
    """Whether a value's name says that it is an accuracy, from 0 to 1."""
    return name.rpartition("_")[2] == "accuracy"


def shown(name: str, value: float | None, decimals: int = 2) -> str:
    """A value as text; '-' if there is none. `decimals` are those of a percentage."""
    if value is None:
        return "-"
    if is_fraction_correct(name):
        return f"{value:.{decimals}%}"
    return f"{value:.4f}" if name.rpartition("_")[2] == "loss" else f"{value:.5g}"
