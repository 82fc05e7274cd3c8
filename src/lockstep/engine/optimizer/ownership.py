"""Which rank updates each parameter, if the optimizer is sharded, and the parts of its state (ZeRO-1)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lockstep.launch.ranks.ranks import Ranks

Owners = Mapping[Tensor, int]
"""Parameter → the rank that updates it."""


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, in the order of its state dict."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def find_owners(parameters: Iterable[Tensor], world_size: int) -> dict[Tensor, int]:
    """Shares parameters out to ranks: the largest first, each to the rank that has the least so far.

    So the largest share is at most a third above the smallest possible one (Graham, "Bounds on
    multiprocessing timing anomalies", 1969).
    """
    ranks = [(0, rank) for rank in range(world_size)]  # a heap of (bytes, rank)
    owners = {}
    for parameter in sorted(parameters, key=lambda each: -each.nbytes):  # stable: equal ones in their order
        num_bytes, rank = ranks[0]
        owners[parameter] = rank
        heapq.heapreplace(ranks, (num_bytes + parameter.nbytes, rank))
    return owners


def drop_others(optimizer: torch.optim.Optimizer, owners: Owners, rank: int) -> None:
    """Frees the state of other ranks' parameters: Adagrad makes that of all as it is constructed."""
    for parameter in [each for each in optimizer.state if owners[each] != rank]:
        del optimizer.state[parameter]


def own_part(state: Mapping[str, Any], optimizer: torch.optim.Optimizer, owners: Owners, rank: int) -> Any:
    """An optimizer's state dict with one rank's entries alone."""
    own = {index for index, owner in _numbered(optimizer, owners) if owner == rank}
    return {**state, "state": {index: entry for index, entry in state["state"].items() if index in own}}


def gather_parts(optimizer: torch.optim.Optimizer, owners: Owners, ranks: Ranks) -> dict[int, Any]:
    """The entries of all other ranks in the optimizer's state dict, on the main rank, in host memory.

    All ranks must call it. They come one by one, so that only the one under way is in memory twice.
    """
    own, others = optimizer.state_dict()["state"], {}
    for index, owner in _numbered(optimizer, owners):
        if owner == 0 or ranks.rank not in (0, owner):
            continue
        entry = ranks.fetch(pytree.tree_map_only(Tensor, Tensor.cpu, own.get(index)), owner)
        if ranks.is_main and entry is not None:
            others[index] = entry
    return others


def _numbered(optimizer: torch.optim.Optimizer, owners: Owners) -> Iterator[tuple[int, int]]:
    """(number of a parameter in the state dict, its owner)."""
    return ((index, owners[parameter]) for index, parameter in enumerate(parameters_of(optimizer)))
