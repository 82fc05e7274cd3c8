"""Sums in one fixed binary tree, whose bits do not depend on who adds which part."""

from __future__ import annotations

import torch
from torch import Tensor


class TreeSum:
    """Adds leaves, given in the order of their index, in one fixed binary tree: a binary counter.

    The stack holds sums of 2**level leaves, levels falling; a new leaf merges while the top has its level. So
    2**k aligned leaves always form one subtree, and a sum of such sums has the bits of the whole.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, list[Tensor]]] = []

    @property
    def is_empty(self) -> bool:
        return not self._stack

    def add(self, leaf: list[Tensor], level: int = 0) -> None:
        """Adds a leaf, a list of tensors, or the sum of 2**level of them. The tree may then write to it."""
        while self._stack and self._stack[-1][0] == level:
            leaf = _added(self._stack.pop()[1], leaf)
            level += 1
        self._stack.append((level, leaf))

    def total(self) -> list[Tensor]:
        """The sum of all leaves; the tree is empty afterwards."""
        _, total = self._stack.pop()
        while self._stack:
            total = _added(self._stack.pop()[1], total)
        return total


def _added(earlier: list[Tensor], later: list[Tensor]) -> list[Tensor]:
    torch._foreach_add_(earlier, later)
    return earlier


def sum_of_rows(rows: Tensor) -> Tensor:
    """The sum of the rows of (count, length) in the tree of `TreeSum`, (length,); overwrites the rows.

    It adds level by level, so that a GPU launches log2(count) kernels and not one for each row.
    """
    while len(rows) > 1:
        pairs = len(rows) // 2 * 2
        rows[:pairs:2].add_(rows[1:pairs:2])
        rows = rows[::2]  # an odd last row moves up as it is
    return rows[0]
