"""What a start of a run records of itself and compares with the starts before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.config import Config, source_digests
from lockstep.errors import ConfigError
from lockstep.launch.rank_facts import differing_facts
from lockstep.launch.ranks import Ranks
from lockstep.runs import check_same_sources, newest_checkpoint_step


@dataclass(frozen=True, kw_only=True)
class StartFacts:
    """What a start records of itself."""

    sources: dict[str, str]
    """The digests of the user's modules; see `source_digests`."""
    accepted: list[str]
    """The modules whose source has changed, as the user has said."""


def check_start(
    config: Config, folder: Path, summary: dict[str, Any] | None, ranks: Ranks, *, accept_source: bool
) -> StartFacts:
    """Checks that a start may go on with the run in a folder, before any code of the user's is imported.

    Args:
        config: the settings of this start.
        folder: of the run.
        summary: of the run, if it is finished.
        ranks: all of them must call it.
        accept_source: whether the run may go on with changed source.

    Raises:
        ConfigError: on every rank, if the user's source has changed, or is not the same on all ranks.
    """
    sources = source_digests(config)
    for module in differing_facts(ranks, sources):
        raise ConfigError(f"the source of {module} is not the same on all ranks; copy it to every node")

    def check() -> list[str]:
        step = summary["steps"] if summary is not None else newest_checkpoint_step(folder)
        return check_same_sources(config, folder, step, sources, accept=accept_source)

    return StartFacts(sources=sources, accepted=ranks.on_main(check))
