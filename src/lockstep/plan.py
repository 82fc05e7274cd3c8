"""Which sample is computed when, by whom: pure functions of (seed, step, rank, world size).

Words: a *slot* is the place of one micro-batch in the global batch. A step has `num_slots` =
global_size / micro_size of them; rank r computes slots [r * window, (r + 1) * window). What is in a slot does
not depend on the world size: that is why a run can move to another topology.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lockstep.config import BatchConfig
from lockstep.errors import refuse
from lockstep.keyed_random import Purpose, random_words

PADDING = -1  # sample id of a padded place: it has weight 0 and never counts

DRAWN_TOGETHER = 2**16
"""Samples whose keys are drawn at once: Philox needs some 100 bytes for each while it works."""

SORTED_TOGETHER = 2**20
"""Samples that are sorted at once, about: some 40 bytes for each."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The shape of a run over its data.

    Raises:
        ConfigError: the slots of a global batch do not divide over the ranks.
    """

    seed: int
    num_samples: int
    batch: BatchConfig
    world_size: int
    exact: bool = False
    """Whether each rank's window must be a whole subtree of the exact reduction."""

    def __post_init__(self) -> None:
        window_length(self.batch, self.world_size, exact=self.exact)

    @property
    def num_slots(self) -> int:
        """Micro-batches in a global batch."""
        return self.batch.global_size // self.batch.micro_size

    @property
    def window(self) -> int:
        """Micro-batches each rank computes between two optimizer steps."""
        return self.num_slots // self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that see each sample once; the last may be short."""
        return -(-self.num_samples // self.batch.global_size)

    def slots_of(self, rank: int) -> slice:
        """The slots that a rank computes."""
        return slice(rank * self.window, (rank + 1) * self.window)

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, step within that epoch) of a step counted from 0."""
        return divmod(step, self.steps_per_epoch)

    def num_real(self, step: int) -> int:
        """Real samples in the global batch of a step: the divisor of its mean loss."""
        start = self.place(step)[1] * self.batch.global_size
        return min(self.batch.global_size, self.num_samples - start)

    def samples_seen(self, steps: int) -> int:
        """Real samples in the first `steps` steps."""
        epochs, rest = self.place(steps)
        return epochs * self.num_samples + rest * self.batch.global_size

    def epoch_ids(self, epoch: int) -> NDArray[np.int64]:
        """Sample ids of a whole epoch, shape (steps_per_epoch, num_slots, micro_size), PADDING at the end."""
        return np.stack(list(self.epoch_steps(epoch)))

    def step_ids(self, step: int) -> NDArray[np.int64]:
        """Sample ids of a step, shape (num_slots, micro_size)."""
        epoch, place = self.place(step)
        return next(islice(self.epoch_steps(epoch), place, None))

    def epoch_steps(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Sample ids of each step of an epoch, (num_slots, micro_size), of which never all are held."""
        size, shape = self.batch.global_size, (-1, self.num_slots, self.batch.micro_size)
        rest = np.empty(0, dtype=np.int64)
        for part in order_parts(self.seed, epoch, self.num_samples):
            ids = np.concatenate([rest, part])
            whole = len(ids) // size * size
            yield from ids[:whole].reshape(shape)
            rest = ids[whole:].copy()
        if len(rest):
            yield np.pad(rest, (0, size - len(rest)), constant_values=PADDING).reshape(shape)[0]


def sample_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """A permutation of range(num_samples), a pure function of (seed, epoch).

    Each sample draws a keyed 64-bit number and the samples are sorted by it; equal numbers (odds about
    1e-10 for 60 000 samples) keep the order of their ids. Unlike a library's `permutation`, this is the
    same in every version of every library.
    """
    return np.concatenate(list(order_parts(seed, epoch, num_samples)))


def order_parts(
    seed: int, epoch: int, num_samples: int, sorted_together: int = SORTED_TOGETHER
) -> Iterator[NDArray[np.int64]]:
    """`sample_order` part by part: each holds the samples whose number lies in one of equal ranges.

    Memory stays flat as the samples grow, and the price is time: every part draws all numbers anew.
    """
    num_parts = -(-num_samples // sorted_together)
    for part in range(num_parts):
        numbers, ids = [], []
        for start in range(0, num_samples, DRAWN_TOGETHER):
            drawn = np.arange(start, min(start + DRAWN_TOGETHER, num_samples), dtype=np.int64)
            high, low, _, _ = random_words(seed, Purpose.SHUFFLE, epoch, drawn)
            is_here = high * num_parts >> 32 == part  # both factors are below 2**32, and the parts are few
            numbers.append(high[is_here].astype(np.uint64) << np.uint64(32) | low[is_here].astype(np.uint64))
            ids.append(drawn[is_here])
        yield np.concatenate(ids)[np.argsort(np.concatenate(numbers), kind="stable")]


def window_length(batch: BatchConfig, world_size: int, *, exact: bool) -> int:
    """Micro-batches each rank computes between two optimizer steps.

    Args:
        batch: the sizes that the user states.
        world_size: number of ranks.
        exact: whether a rank's micro-batches must form a whole subtree: a power of two of them.

    Raises:
        ConfigError: the global batch does not divide; names the sizes that would work.
    """
    unit = batch.micro_size * world_size
    exact = exact and world_size > 1  # one rank holds the whole tree, of whatever shape
    works = is_power_of_two_multiple if exact else is_multiple
    if works(batch.global_size, unit):
        return batch.global_size // unit
    lower = next((size for size in range(batch.global_size, 0, -1) if works(size, unit)), 0)
    upper = next(size for size in range(batch.global_size, 4 * batch.global_size + unit) if works(size, unit))
    remedy = "batch.global_size " + " or ".join(str(size) for size in (lower, upper) if size)
    micros = range(batch.micro_size, 0, -1)
    micro = next((size for size in micros if works(batch.global_size, size * world_size)), 0)
    if micro:
        remedy += f", or batch.micro_size {micro},"
    if exact and is_multiple(batch.global_size, unit):
        remedy += " or reduction fast"
    raise refuse(
        "batch.global_size",
        batch.global_size,
        f"must be batch.micro_size = {batch.micro_size} times {world_size} ranks times a "
        f"{'power of two (reduction = exact)' if exact else 'whole number'}; {remedy} would work",
    )


def is_multiple(size: int, unit: int) -> bool:
    """Whether size is a whole number of units."""
    return size % unit == 0


def is_power_of_two_multiple(size: int, unit: int) -> bool:
    """Whether size is 1, 2, 4, 8, … units."""
    windows = size // unit
    return size % unit == 0 and windows & (windows - 1) == 0
