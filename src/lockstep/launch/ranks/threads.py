"""The threads of each rank on a CPU: a run keeps the number that it began with, if the cores suffice."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from typing import NamedTuple

import torch

from lockstep.errors import counted
from lockstep.launch.machine import cores
from lockstep.launch.ranks.ranks import Ranks


class Node(NamedTuple):
    """What the ranks on one node share."""

    num_ranks: int
    num_cores: int


def fullest_node(ranks: Ranks) -> Node:
    """The node with the fewest cores for each of its ranks; the same on every rank. A collective.

    Ranks that are bound to cores of their own have them all together.
    """
    by_name: dict[str, list[frozenset[int]]] = {}
    for name, own in ranks.gather_objects((platform.node(), cores())):
        by_name.setdefault(name, []).append(own)
    nodes = [Node(len(each), len(frozenset().union(*each))) for each in by_name.values()]
    return min(nodes, key=lambda node: node.num_cores / node.num_ranks)


def equal_threads(ranks: Ranks) -> tuple[Ranks, list[str]]:
    """The ranks with as many threads each as the one with the fewest. A collective.

    Shares of unequal nodes differ, and the bits of a sum depend on how threads share it.

    Returns:
        The ranks; and a line for the user if they differed.
    """
    counts = ranks.gather_objects(ranks.num_threads)
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return ranks, []
    line = f"num_threads = {fewest} on every rank, as on rank {counts.index(fewest)}; others had up to {most}"
    return _set_threads(ranks, fewest), [line]


def with_threads(ranks: Ranks, num_threads: int) -> tuple[Ranks, str]:
    """The ranks with a number of threads each, if every node has the cores for it. A collective.

    The bits of a sum depend on how threads share it. So a run takes over the number that it began with,
    whatever a launcher sets: torchrun and accelerate, without being asked, set OMP_NUM_THREADS to 1.

    Returns:
        The ranks; and why they do not have that number, empty if they have it.
    """
    node = fullest_node(ranks)
    if node.num_ranks * num_threads > max(node.num_cores, node.num_ranks):
        threads = f"{counted(node.num_ranks, 'rank')} x {counted(num_threads, 'thread')}"
        return ranks, f"{threads} exceed the {counted(node.num_cores, 'core')} of a node"
    return _set_threads(ranks, num_threads), ""


def _set_threads(ranks: Ranks, num_threads: int) -> Ranks:
    torch.set_num_threads(num_threads)
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    return replace(ranks, num_threads=num_threads)
