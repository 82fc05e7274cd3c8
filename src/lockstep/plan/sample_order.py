"""The order in which an epoch visits its samples: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lockstep.plan.keyed_random import Purpose, random_words

DRAW_SIZE = 2**16
"""Samples per call of the generator, which needs about 100 bytes for each of them."""

SLICE_SIZE = 2**20
"""Samples per slice of the order, on average. Sorting needs about 40 bytes for each of them."""


def sample_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """A permutation of range(num_samples), a pure function of (seed, epoch).

    Each sample draws a keyed 64-bit number, and the samples are sorted by these numbers. Equal numbers (for
    60 000 samples, a chance of about 1e-10) keep the order of their ids. Unlike a library's `permutation`,
    the result is the same in every version of every library.
    """
    return np.concatenate(list(order_slices(seed, epoch, num_samples)))


def order_slices(
    seed: int, epoch: int, num_samples: int, slice_size: int = SLICE_SIZE
) -> Iterator[NDArray[np.int64]]:
    """Yields `sample_order` in slices: the samples whose numbers lie in one of several equal ranges.

    Memory stays flat as the number of samples grows. The price is time: each slice draws all numbers again.
    """
    num_slices = -(-num_samples // slice_size)
    for index in range(num_slices):
        numbers, ids = [], []
        for start in range(0, num_samples, DRAW_SIZE):
            drawn = np.arange(start, min(start + DRAW_SIZE, num_samples), dtype=np.int64)
            high, low, _, _ = random_words(seed, Purpose.SHUFFLE, epoch, drawn)
            is_here = high * num_slices >> 32 == index  # no overflow: high is below 2**32, and slices are few
            numbers.append(high[is_here].astype(np.uint64) << np.uint64(32) | low[is_here].astype(np.uint64))
            ids.append(drawn[is_here])
        yield np.concatenate(ids)[np.argsort(np.concatenate(numbers), kind="stable")]
