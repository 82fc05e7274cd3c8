"""Which rank computes which sample in which step: pure functions of (seed, step, rank, world size).

This does the work of a distributed sampler. A *slot* is the position of a micro-batch in the global batch. A
step has `num_slots` = global_size / micro_size slots; rank r computes slots [r * window, (r + 1) * window).
The content of a slot does not depend on the world size, so a run can move to another topology.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lockstep.config import BatchConfig
from lockstep.errors import require
from lockstep.plan.sample_order import order_slices
from lockstep.plan.window import window_length

PADDING = -1
"""The sample id of a padded place, which has weight 0 and never counts."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a run over its training set.

    Raises:
        ConfigError: the slots of a global batch do not divide evenly over the ranks.
    """

    seed: int
    num_samples: int
    batch: BatchConfig
    world_size: int
    exact: bool = False
    """Whether each rank's window must be a complete subtree of the exact reduction."""
    drop_last: bool = False
    """Whether the last, incomplete global batch of an epoch is left out."""

    def __post_init__(self) -> None:
        window_length(self.batch, self.world_size, exact=self.exact)
        require(
            not self.drop_last or self.num_samples >= self.batch.global_size,
            "data.drop_last",
            self.drop_last,
            f"leaves none of the {self.num_samples} samples: batch.global_size is {self.batch.global_size}; "
            "turn it off, or lower batch.global_size",
        )

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
        """Optimizer steps in one pass over the samples. The last one may be short."""
        whole, rest = divmod(self.num_samples, self.batch.global_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def samples_per_epoch(self) -> int:
        """Samples that an epoch trains on: all, or with drop_last those of whole global batches."""
        return self.steps_per_epoch * self.batch.global_size if self.drop_last else self.num_samples

    def slots_of(self, rank: int) -> slice:
        """The slots that a rank computes."""
        return slice(rank * self.window, (rank + 1) * self.window)

    def epoch_and_offset(self, step: int) -> tuple[int, int]:
        """(epoch, step within that epoch) of a step, all counted from 0."""
        return divmod(step, self.steps_per_epoch)

    def samples_in_step(self, step: int) -> int:
        """Samples in the global batch of a step: the divisor of its mean loss."""
        start = self.epoch_and_offset(step)[1] * self.batch.global_size
        return min(self.batch.global_size, self.num_samples - start)

    def num_micro_batches(self, step: int) -> int:
        """Slots of a step that have samples: all of them, except at the end of an epoch."""
        return -(-self.samples_in_step(step) // self.batch.micro_size)

    def micro_batch_sizes(self, step: int) -> list[int]:
        """Samples in each slot of a step that has any, in slot order."""
        return self._sizes(step, range(self.num_micro_batches(step)))

    def window_sizes(self, step: int, rank: int) -> list[int]:
        """Samples in each of a rank's micro-batches of a step; at the end of an epoch it may have none."""
        slots = self.slots_of(rank)
        return self._sizes(step, range(slots.start, min(slots.stop, self.num_micro_batches(step))))

    def _sizes(self, step: int, slots: range) -> list[int]:
        num_samples, micro_size = self.samples_in_step(step), self.batch.micro_size
        return [min(micro_size, num_samples - slot * micro_size) for slot in slots]

    def samples_seen(self, steps: int) -> int:
        """Samples in the first `steps` steps."""
        epochs, rest = self.epoch_and_offset(steps)
        return epochs * self.samples_per_epoch + rest * self.batch.global_size

    def epoch_ids(self, epoch: int) -> NDArray[np.int64]:
        """Sample ids of a whole epoch, (steps_per_epoch, num_slots, micro_size), with PADDING at the end."""
        return np.stack(list(self.epoch_steps(epoch)))

    def step_ids(self, step: int) -> NDArray[np.int64]:
        """Sample ids of a step, (num_slots, micro_size)."""
        epoch, offset = self.epoch_and_offset(step)
        return next(islice(self.epoch_steps(epoch), offset, None))

    def epoch_steps(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yields the sample ids of each step of an epoch, (num_slots, micro_size), in little memory."""
        size, shape = self.batch.global_size, (-1, self.num_slots, self.batch.micro_size)
        rest = np.empty(0, dtype=np.int64)
        for order in order_slices(self.seed, epoch, self.num_samples):
            ids = np.concatenate([rest, order])
            whole = len(ids) // size * size
            yield from ids[:whole].reshape(shape)
            rest = ids[whole:].copy()
        if len(rest) and not self.drop_last:
            yield np.pad(rest, (0, size - len(rest)), constant_values=PADDING).reshape(shape)[0]
