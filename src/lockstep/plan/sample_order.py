"""The order in which an epoch visits its samples: a keyed permutation, computed position by position.

A sort would need the whole epoch before its first sample. Instead, a Feistel network maps each position to
the sample there, so that a step's samples cost the same in a set of a thousand and in one of a billion.

The n positions lie in a square of m x m cells, where m is even and at least the root of n. A position is a
cell (left, right). Each round adds a random function of one coordinate to the other, which can be undone:

    left, right = right, (left + round_function(right)) mod m

Random functions make such a network a pseudorandom permutation (Luby and Rackoff, "How to construct
pseudorandom permutations from pseudorandom functions", 1988); here Philox draws them. A result that is not
below n goes through the network again until it is: cycle walking, which turns a permutation of the square
into one of the n samples (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). Only a
few walk: the square exceeds n by a part of 4 / sqrt(n) at most.

Two choices make the orders of small sets uniform, too. An addition modulo an even m is as often an odd
permutation as an even one, while an exclusive or of several bits would give even ones only. And 16 rounds mix
well even where m is 4: each pair of places is as likely for two samples as any other, to within 0.02 %.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from lockstep.plan.keyed_random import Purpose, random_words

ROUNDS = 16
"""Changing it, or anything else in this module, would change the order of every run."""

WORDS_PER_DRAW = 4
MIN_SIDE = 4
MAX_TABLE_SIDE = 2**16
"""Up to this side, in sets of up to 2**32 samples, the round functions are looked up: 8 MiB at most."""

MAX_SAMPLES = 2**48
"""Up to here a round function's value, a 32-bit word scaled to the side, is uniform to within 0.4 %."""


class SampleOrder:
    """A permutation of range(num_samples), a pure function of (seed, epoch).

    Unlike a library's `permutation`, it is the same in every version of every library.
    """

    def __init__(self, seed: int, epoch: int, num_samples: int, purpose: Purpose = Purpose.SHUFFLE) -> None:
        assert 0 < num_samples <= MAX_SAMPLES
        self.seed, self.epoch, self.num_samples, self.purpose = seed, epoch, num_samples, purpose
        root = isqrt(num_samples - 1) + 1
        self.side = max(MIN_SIDE, root + root % 2)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sample ids at positions in the epoch, an array of any shape."""
        ids = self._permuted(positions.ravel())
        outside = np.flatnonzero(ids >= self.num_samples)
        while len(outside):
            ids[outside] = self._permuted(ids[outside])
            outside = outside[ids[outside] >= self.num_samples]
        return ids.reshape(positions.shape)

    def _permuted(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """A permutation of range(side * side)."""
        left, right = np.divmod(cells, self.side)
        below = np.empty_like(left)
        for number in range(ROUNDS):
            left += self._round_function(number, right)
            # Modulo the side, of a sum below twice the side. As unsigned numbers, negative ones are large, so
            # the smaller one is right. It is faster than the operator %.
            np.subtract(left, self.side, out=below)
            np.minimum(left.view(np.uint64), below.view(np.uint64), out=left.view(np.uint64))
            left, right = right, left
        return left * self.side + right

    def _round_function(self, number: int, right: NDArray[np.int64]) -> NDArray[np.int64]:
        """Random numbers below the side."""
        if self.side <= MAX_TABLE_SIDE:
            return self._tables[number].take(right)
        return self._draws(right, number // WORDS_PER_DRAW)[number % WORDS_PER_DRAW]

    @cached_property
    def _tables(self) -> NDArray[np.int64]:
        """The values of all round functions, (ROUNDS, side): far fewer than there are samples."""
        inputs = np.arange(self.side, dtype=np.int64)
        blocks = np.arange(ROUNDS // WORDS_PER_DRAW, dtype=np.int64)
        return self._draws(inputs, blocks[:, None]).swapaxes(0, 1).reshape(ROUNDS, self.side)

    def _draws(self, inputs: NDArray[np.int64], block: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """The values of the four round functions of a block."""
        return np.stack(random_words(self.seed, self.purpose, self.epoch, inputs, block)) * self.side >> 32


@lru_cache(maxsize=2)
def sample_order(seed: int, epoch: int, num_samples: int) -> SampleOrder:
    """The order of an epoch. The last two are kept, because the steps of an epoch share their tables."""
    return SampleOrder(seed, epoch, num_samples)


@lru_cache(maxsize=1)
def split_order(seed: int, num_samples: int) -> SampleOrder:
    """The order in which a data set is split: first the samples to train on, then those that are held out."""
    return SampleOrder(seed, 0, num_samples, Purpose.HOLD_OUT)
