"""Micro-batches per rank and optimizer step: gradient accumulation, derived from the stated batch sizes."""

from __future__ import annotations

from dataclasses import replace

from lockstep.config import BatchConfig
from lockstep.errors import counted, refuse, require

MIN_SLOTS = 8
"""Micro-batches of a global batch that 'auto' leaves at least."""


def window_length(batch: BatchConfig, world_size: int, *, exact: bool) -> int:
    """Micro-batches each rank computes between two optimizer steps.

    Args:
        batch: the sizes that the user states.
        world_size: the number of ranks.
        exact: whether each rank's micro-batches must form a complete subtree, so that their
            number must be a power of two.

    Raises:
        ConfigError: the global batch does not divide evenly. Names the sizes that would work.
    """
    unit = batch.micro_samples * world_size
    exact = exact and world_size > 1  # a single rank holds the whole tree, whatever its shape
    works = is_power_of_two_multiple if exact else is_multiple
    if works(batch.global_size, unit):
        return batch.global_size // unit
    lower = next((size for size in range(batch.global_size, 0, -1) if works(size, unit)), 0)
    upper = next(size for size in range(batch.global_size, 4 * batch.global_size + unit) if works(size, unit))
    remedy = "batch.global_size " + " or ".join(str(size) for size in (lower, upper) if size)
    micros = range(batch.micro_samples, 0, -1)
    micro = next((size for size in micros if works(batch.global_size, size * world_size)), 0)
    if micro:
        remedy += f", or batch.micro_size {micro},"
    if exact and is_multiple(batch.global_size, unit):
        remedy += " or reduction fast"
    raise refuse(
        "batch.global_size",
        batch.global_size,
        f"must be batch.micro_size = {batch.micro_size} times {counted(world_size, 'rank')} times a "
        f"{'power of two (reduction = exact)' if exact else 'whole number'}; {remedy} would work",
    )


def window_for_reduction(batch: BatchConfig, reduction: str, world_size: int) -> int:
    """`window_length` under a reduction by name: "exact" or "fast". Of 'auto' the shortest.

    Raises:
        ConfigError: the global batch does not divide evenly. Names the sizes that would work.
    """
    if batch.micro_size == "auto":
        batch = replace(batch, micro_size=micro_sizes(batch, reduction, world_size)[0])
    return window_length(batch, world_size, exact=reduction == "exact")


def micro_sizes(batch: BatchConfig, reduction: str, world_size: int) -> list[int]:
    """The sizes of a micro-batch that 'auto' may choose, the largest first: powers of two.

    Each leaves `MIN_SLOTS` slots, so that the run can move to as many ranks.

    Raises:
        ConfigError: there is none.
    """
    works = is_power_of_two_multiple if reduction == "exact" and world_size > 1 else is_multiple
    powers = [2**power for power in range((batch.global_size // MIN_SLOTS).bit_length())]
    sizes = [size for size in reversed(powers) if works(batch.global_size, size * world_size)]
    rule = (
        f"finds no power of two that divides batch.global_size = {batch.global_size} evenly over "
        f"{counted(world_size, 'rank')} into {MIN_SLOTS} or more micro-batches; state a number"
    )
    require(bool(sizes), "batch.micro_size", "auto", rule)
    return sizes


def is_multiple(size: int, unit: int) -> bool:
    """Whether size is a whole number of units."""
    return size % unit == 0


def is_power_of_two_multiple(size: int, unit: int) -> bool:
    """Whether size is 1, 2, 4, 8, … units."""
    windows = size // unit
    return size % unit == 0 and windows & (windows - 1) == 0
