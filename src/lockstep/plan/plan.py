"""Which rank computes which sample in which step: pure functions of (seed, step, rank, world size).

This does the work of a distributed sampler. A *slot* is the position of a micro-batch in the global batch. A
step has `num_slots` = global_size / micro_size slots; rank r computes slots [r * window, (r + 1) * window).
The content of a slot does not depend on the world size, so a run can move to another topology.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockstep.config import BatchConfig
from lockstep.errors import require
from lockstep.plan.sample_order import sample_order, split_order
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
    """Samples that are trained on."""
    batch: BatchConfig
    world_size: int
    exact: bool = False
    """Whether each rank's window must be a complete subtree of the exact reduction."""
    drop_last: bool = False
    """Whether the last, incomplete global batch of an epoch is left out."""
    num_held_out: int = 0
    """Further samples of the same set, which are never trained on. The seed says which."""

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
        return self.batch.global_size // self.batch.micro_samples

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
        return -(-self.samples_in_step(step) // self.batch.micro_samples)

    def micro_batch_sizes(self, step: int) -> list[int]:
        """Samples in each slot of a step that has any, in slot order."""
        return self._sizes(step, range(self.num_micro_batches(step)))

    def window_sizes(self, step: int, rank: int) -> list[int]:
        """Samples in each of a rank's micro-batches of a step; at the end of an epoch it may have none."""
        slots = self.slots_of(rank)
        return self._sizes(step, range(slots.start, min(slots.stop, self.num_micro_batches(step))))

    def _sizes(self, step: int, slots: range) -> list[int]:
        num_samples, micro_size = self.samples_in_step(step), self.batch.micro_samples
        return [min(micro_size, num_samples - slot * micro_size) for slot in slots]

    def samples_seen(self, steps: int) -> int:
        """Samples in the first `steps` steps."""
        epochs, rest = self.epoch_and_offset(steps)
        return epochs * self.samples_per_epoch + rest * self.batch.global_size

    def step_ids(self, step: int) -> NDArray[np.int64]:
        """Sample ids of a step, (num_slots, micro_size), with PADDING at the end of an epoch."""
        return self._ids(range(step, step + 1), slice(0, self.num_slots))[0]

    def spans(self, first_step: int, max_samples: int) -> Iterator[range]:
        """Yields consecutive steps from a step on, without end, to be read together.

        A span has at most `max_samples` samples on each rank, or one step, and ends with its epoch.
        """
        max_steps = max(1, max_samples // (self.window * self.batch.micro_samples))
        while True:
            _, offset = self.epoch_and_offset(first_step)
            span = range(first_step, first_step + min(max_steps, self.steps_per_epoch - offset))
            yield span
            first_step = span.stop

    def span_ids(self, span: range, rank: int) -> NDArray[np.int64]:
        """Sample ids of a rank in consecutive steps of one epoch, (steps, window, micro), with PADDING."""
        return self._ids(span, self.slots_of(rank))

    def held_out_ids(self) -> NDArray[np.int64]:
        """The ids of the samples that are held out, in rising order, (num_held_out,)."""
        total = self.num_samples + self.num_held_out
        return np.sort(split_order(self.seed, total)[np.arange(self.num_samples, total)])

    def _ids(self, span: range, slots: slice) -> NDArray[np.int64]:
        epoch, offset = self.epoch_and_offset(span.start)
        size, micro = self.batch.global_size, self.batch.micro_samples
        firsts = np.arange(offset, offset + len(span), dtype=np.int64) * size
        positions = firsts[:, None] + np.arange(slots.start * micro, slots.stop * micro)
        is_sample = positions < self.num_samples
        ids = np.full(positions.shape, PADDING)
        places = sample_order(self.seed, epoch, self.num_samples)[positions[is_sample]]
        if self.num_held_out:
            places = split_order(self.seed, self.num_samples + self.num_held_out)[places]
        ids[is_sample] = places
        return ids.reshape(len(span), -1, micro)
