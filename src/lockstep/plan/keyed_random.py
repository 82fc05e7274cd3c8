"""Counter-based random numbers: a draw is a pure function of (seed, purpose, step or epoch, sample id).

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), the
generator of Random123, cuRAND and NumPy. There is no stream, so there is no state to save, and a draw does
not depend on the rank, the micro-batch or earlier draws. The same arithmetic works for NumPy arrays and torch
tensors of int64: both wrap on overflow, and a mask after each shift keeps 32 bits.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

Words = Any  # a NumPy array or a torch tensor, int64, of 32-bit words
MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, in 32 bits
ROUNDS = 10


class Purpose(IntEnum):
    """What a draw is for: below 256, and never shared. Changing a number would change every run."""

    SHUFFLE = 0
    SYNTHETIC_DATA = 2
    AUGMENT = 3
    HOLD_OUT = 4


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Philox4x32-10: four 32-bit words for each counter.

    Args:
        counter: four broadcastable int64 arrays of 32-bit words.
        key: two 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0 = c0 * MULTIPLIERS[0]
        p1 = c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & MASK) ^ c1 ^ k0,
            p1 & MASK,
            ((p0 >> 32) & MASK) ^ c3 ^ k1,
            p0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def random_words(seed: int, purpose: int, time: int, ids: Words, block: int | Words = 0) -> tuple[Words, ...]:
    """Four independent uniform 32-bit words for each id.

    Args:
        seed: 63 bits, the key.
        purpose: what the draw is for.
        time: the step or the epoch, below 2**32.
        ids: int64 array of sample ids, each below 2**56.
        block: which four words of a longer sequence, below 2**32; an array broadcasts against `ids`.
    """
    zero = ids * 0
    # The upper bits of an id share a word with the purpose, which is below 256.
    counter = (zero + block, ids & MASK, zero + (time & MASK), (ids >> 32 << 8) + int(purpose))
    return philox4x32(counter, (seed & MASK, (seed >> 32) & MASK))


def uniform(words: Words) -> Any:
    """Uniform float32 numbers in [0, 1) from 32-bit words in a torch tensor: the upper 24 bits, exactly."""
    return (words >> 8).float() * 2.0**-24
