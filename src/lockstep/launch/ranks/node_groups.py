"""Process groups within a node and across nodes, for an exchange that sends few messages over the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist


@dataclass(frozen=True, kw_only=True)
class NodeGroups:
    """Where this rank is among equal nodes, and the groups that it shares with others."""

    ranks_per_node: int
    """A power of two above 1."""
    node: int
    """Number of this rank's node, from 0."""
    within: dist.ProcessGroup
    """The ranks of this node."""
    across: dist.ProcessGroup
    """The ranks with this one's local rank, one of each node."""


def ranks_per_node(local_ranks: Sequence[int]) -> int:
    """How many ranks each node has; 0 unless there are several nodes with the same power of two above 1.

    Args:
        local_ranks: of all ranks in their order, in which those of a node must follow one another.
    """
    world_size = len(local_ranks)
    size = next((rank for rank in range(1, world_size) if local_ranks[rank] == 0), world_size)
    is_even = world_size % size == 0 and list(local_ranks) == [rank % size for rank in range(world_size)]
    return size if is_even and 1 < size < world_size and size & (size - 1) == 0 else 0


def make_node_groups(rank: int, local_ranks: Sequence[int], timeout: timedelta) -> NodeGroups | None:
    """Makes the groups, if `ranks_per_node` finds equal nodes. All ranks must call it."""
    size = ranks_per_node(local_ranks)
    if not size:
        return None
    node, local = divmod(rank, size)

    def group(members: range) -> dist.ProcessGroup:
        # Only its members meet: with all ranks for each group, many nodes would meet for a long time.
        made = dist.new_group(list(members), timeout=timeout, use_local_synchronization=True)
        assert isinstance(made, dist.ProcessGroup)
        return made

    within = group(range(node * size, (node + 1) * size))
    across = group(range(local, len(local_ranks), size))
    return NodeGroups(ranks_per_node=size, node=node, within=within, across=across)
