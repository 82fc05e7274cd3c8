"""The exact reduction's exchange in two levels, within a node and across nodes: few messages on the network.

The ranks of a node are a complete subtree of the sum, as they are a power of two. So the node adds its own
first, and what is added across nodes are sums of nodes, with the same bits. With N nodes of L ranks a rank
sends 2 (N - 1) messages over the network instead of 2 L (N - 1), and its node 1 / L of the bytes.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from lockstep.engine.reduction.tree_sum import sum_of_rows
from lockstep.launch.ranks.node_groups import NodeGroups


def sum_of_slice(buffer: Tensor, num_active: int, nodes: NodeGroups) -> Tensor:
    """The sum over the ranks of this rank's slice of their buffers.

    Args:
        buffer: of this rank, (length,), which divides into a slice for each rank.
        num_active: ranks that have something to add, the first ones.
        nodes: the groups of this rank.
    """
    size, num_nodes = nodes.ranks_per_node, nodes.across.size()
    # First to each rank of this node the slices of all ranks with its local rank, (local rank, node, length).
    mine = buffer.view(num_nodes, size, -1).transpose(0, 1).contiguous()
    received = torch.empty_like(mine)
    dist.all_to_all_single(received, mine, group=nodes.within)
    num_here = min(max(num_active - nodes.node * size, 1), size)  # what an idle node sends is left out below
    of_node = sum_of_rows(received.view(size, -1)[:num_here])
    received = torch.empty_like(of_node)
    dist.all_to_all_single(received, of_node.contiguous(), group=nodes.across)
    return sum_of_rows(received.view(num_nodes, -1)[: -(-num_active // size)])


def gather_slices(buffer: Tensor, my_slice: Tensor, nodes: NodeGroups) -> None:
    """Fills every rank's buffer with the slices of all ranks, on the way back from `sum_of_slice`."""
    size, num_nodes = nodes.ranks_per_node, nodes.across.size()
    of_all_nodes = my_slice.new_empty(num_nodes * len(my_slice))
    dist.all_gather_into_tensor(of_all_nodes, my_slice.contiguous(), group=nodes.across)
    everything = torch.empty_like(buffer)
    dist.all_gather_into_tensor(everything, of_all_nodes, group=nodes.within)
    buffer.view(num_nodes, size, -1).copy_(everything.view(size, num_nodes, -1).transpose(0, 1))
