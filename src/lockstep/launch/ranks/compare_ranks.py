"""Compares what the ranks of a job are: each tells its facts, and all learn which of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.config import Config, leaves
from lockstep.errors import ConfigError
from lockstep.launch.ranks.ranks import Ranks

OF_A_RANK = ("tracking.", "data.root")
"""The settings in which ranks may differ: only the main rank uses those of W&B."""


def differing_facts(ranks: Ranks, facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts in which some rank differs from rank 0, the same on every rank. A collective.

    Args:
        ranks: all of them must call it, on the CPU's group: it waits for no GPU.
        facts: of this rank, by name.

    Returns:
        Name → how it differs, such as "'A' on rank 0, 'B' on rank 3" (the lowest rank that differs).
    """
    everyone = ranks.gather_objects(dict(facts))
    first, differing = everyone[0], {}
    for rank, each in enumerate(everyone):
        for name in sorted(first.keys() | each):
            if first.get(name) != each.get(name) and name not in differing:
                differing[name] = f"{first.get(name)!r} on rank 0, {each.get(name)!r} on rank {rank}"
    return differing


def check_same_settings(config: Config, ranks: Ranks) -> None:
    """Checks that every rank was started with the same settings, as those of the main rank apply to all.

    Args:
        config: the settings that this rank was started with.
        ranks: all of them must call it.

    Raises:
        ConfigError: on every rank, if one differs.
    """
    own = {name: value for name, value in leaves(config).items() if not name.startswith(OF_A_RANK)}
    for name, how in differing_facts(ranks, own).items():
        raise ConfigError(f"{name}: {how}; start every rank with the same settings")
