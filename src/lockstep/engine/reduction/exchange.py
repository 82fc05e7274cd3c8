"""How the ranks' flat buffers are added: in the tree of the exact reduction, or by an all-reduce.

If the optimizer is sharded, the sums go to the ranks that need them, and their weights come back that way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from lockstep.config import ReductionName
from lockstep.engine.reduction.node_exchange import gather_slices, sum_of_slice
from lockstep.engine.reduction.tree_sum import sum_of_rows
from lockstep.launch.ranks.node_groups import NodeGroups

Exchange = Callable[[Tensor, int, int, NodeGroups | None], None]
"""Sums a flat buffer over the ranks in place: (buffer, world size, active ranks, equal nodes if any)."""


def exchange_in_tree(buffer: Tensor, world_size: int, num_active: int, nodes: NodeGroups | None) -> None:
    """Adds the ranks' buffers in the order of the tree. It moves as many bytes as a ring all-reduce.

    Every rank adds one slice of all buffers and sends the sum back. At the end of an epoch the last ranks may
    have nothing to add. Their zeros are left out: -0 + 0 would be +0.
    """
    _gather_slices(buffer, _sum_of_my_slice(buffer, world_size, num_active, nodes), nodes)


def exchange_by_all_reduce(
    buffer: Tensor, world_size: int, num_active: int, nodes: NodeGroups | None
) -> None:
    """Adds the ranks' buffers in the order of the communication library."""
    dist.all_reduce(buffer)


def sum_to_owners(
    buffer: Tensor, bounds: Sequence[int], rank: int, num_active: int, nodes: NodeGroups | None
) -> None:
    """Adds the ranks' buffers in the order of the tree, and leaves each rank the sum of its part in place.

    The exchange works on equal slices, as `exchange_in_tree` does, whatever the parts are. What of a slice is
    another rank's part then moves there: nothing if parts and slices coincide.

    Args:
        buffer: of this rank, (length,).
        bounds: where each rank's part begins, and the length, (world size + 1).
        rank: this one.
        num_active: ranks that have something to add.
        nodes: equal nodes, if any, within which is added first.
    """
    my_slice = _sum_of_my_slice(buffer, len(bounds) - 1, num_active, nodes)
    mine, others = _overlaps(bounds, rank)
    my_part = buffer[bounds[rank] : bounds[rank + 1]]
    dist.all_to_all_single(my_part, my_slice, output_split_sizes=others, input_split_sizes=mine)


def gather_from_owners(buffer: Tensor, bounds: Sequence[int], rank: int, nodes: NodeGroups | None) -> None:
    """Gives every rank the parts of all: the way back from `sum_to_owners`, with its arguments."""
    my_slice = buffer.new_empty(len(buffer) // (len(bounds) - 1))
    mine, others = _overlaps(bounds, rank)
    my_part = buffer[bounds[rank] : bounds[rank + 1]]
    dist.all_to_all_single(my_slice, my_part, output_split_sizes=mine, input_split_sizes=others)
    _gather_slices(buffer, my_slice, nodes)


def _sum_of_my_slice(buffer: Tensor, world_size: int, num_active: int, nodes: NodeGroups | None) -> Tensor:
    if nodes is not None:
        return sum_of_slice(buffer, num_active, nodes)
    blocks = torch.empty_like(buffer)
    dist.all_to_all_single(blocks, buffer)
    return sum_of_rows(blocks.view(world_size, -1)[:num_active])


def _gather_slices(buffer: Tensor, my_slice: Tensor, nodes: NodeGroups | None) -> None:
    if nodes is not None:
        gather_slices(buffer, my_slice, nodes)
    else:
        dist.all_gather_into_tensor(buffer, my_slice)


def _overlaps(bounds: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    """How much of this rank's slice is in each rank's part, and of each rank's slice in this rank's part."""
    ranks = range(len(bounds) - 1)
    length = bounds[-1] // len(ranks)

    def overlap(slice_of: int, part_of: int) -> int:
        start = max(slice_of * length, bounds[part_of])
        return max(0, min((slice_of + 1) * length, bounds[part_of + 1]) - start)

    return [overlap(rank, each) for each in ranks], [overlap(each, rank) for each in ranks]


REDUCTIONS: dict[ReductionName, Exchange] = {"exact": exchange_in_tree, "fast": exchange_by_all_reduce}
"""Name → how the ranks' sums are added."""
