"""The order in which an epoch visits its samples: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lockstep.plan.keyed_random import Purpose, random_words

DRAWN_TOGETHER = 2**16
"""Samples whose keys are drawn at once: Philox needs some 100 bytes for each while it works."""

SORTED_TOGETHER = 2**20
"""Samples that are sorted at once, about: some 40 bytes for each."""


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
