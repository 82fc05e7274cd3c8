"""How the ranks' flat buffers are added: in the tree of the exact reduction, or by an all-reduce."""

from __future__ import annotations

from collections.abc import Callable

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
    if nodes is not None:
        gather_slices(buffer, sum_of_slice(buffer, num_active, nodes), nodes)
        return
    blocks = torch.empty_like(buffer)
    dist.all_to_all_single(blocks, buffer)
    my_slice = sum_of_rows(blocks.view(world_size, -1)[:num_active])
    dist.all_gather_into_tensor(buffer, my_slice)


def exchange_by_all_reduce(
    buffer: Tensor, world_size: int, num_active: int, nodes: NodeGroups | None
) -> None:
    """Adds the ranks' buffers in the order of the communication library."""
    dist.all_reduce(buffer)


REDUCTIONS: dict[ReductionName, Exchange] = {"exact": exchange_in_tree, "fast": exchange_by_all_reduce}
"""Name → how the ranks' sums are added."""
