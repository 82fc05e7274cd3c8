"""What a start of a run records of itself and compares with the starts before and among its ranks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lockstep
from lockstep.config import Config, imported_digests, source_digests, source_file, users_modules
from lockstep.errors import ConfigError
from lockstep.launch.ranks.compare_ranks import differing_facts
from lockstep.launch.ranks.ranks import Ranks
from lockstep.launch.ranks.threads import equal_threads, with_threads
from lockstep.runs import (
    bit_facts,
    check_same_sources,
    commit_of,
    newest_checkpoint_step,
    recorded_sources,
    recorded_threads,
)
from lockstep.runs.history.environment import environment, package_digests, package_versions


@dataclass(frozen=True, kw_only=True)
class StartFacts:
    """What a start records of itself."""

    recorded: dict[str, Any]
    """What it runs on, and from `with_imported` the digests of the user's modules; of the main rank."""
    imported_before: frozenset[str]
    """The modules that were imported before the user's are."""
    accepts: bool
    """Whether the run may go on with changed source."""
    accepted: list[str]
    """The modules whose source has changed, as the user has said."""
    notes: list[str]
    """Lines that tell the user of it before training."""
    shortage: str
    """Why it does not have the number of threads of the start before; empty if it has."""


def check_sources(
    config: Config, folder: Path, summary: dict[str, Any] | None, ranks: Ranks, *, accept: bool
) -> list[str]:
    """Checks that the user's modules are those of the run in a folder, before any of them is imported.

    Args:
        config: the settings of this start.
        folder: of the run.
        summary: of the run, if it is finished.
        ranks: all of them must call it.
        accept: whether the run may continue with changed source.

    Returns:
        The modules that have changed.

    Raises:
        ConfigError: on every rank, if the user's source has changed, or is not the same on all ranks.
    """

    def recorded() -> tuple[int, list[str]]:
        step = summary["steps"] if summary is not None else newest_checkpoint_step(folder)
        return step, list(recorded_sources(folder, step))

    step, modules = ranks.on_main(recorded)
    sources = source_digests(config, modules)
    for module in differing_facts(ranks, sources):
        raise ConfigError(f"the source of {module} is not the same on all ranks; copy it to every node")
    return ranks.on_main(lambda: check_same_sources(config, folder, step, sources, accept=accept))


def with_imported(config: Config, folder: Path, facts: StartFacts, ranks: Ranks) -> StartFacts:
    """The facts with what was imported: the user's modules, by computed names too, and versions of packages.

    Args:
        config: the settings of this start; its task and model are made.
        folder: of the run.
        facts: of this start.
        ranks: all of them must call it.

    Raises:
        ConfigError: on every rank, if a module has changed since the newest checkpoint, or is not the same on
            all ranks.
    """
    sources = dict(sorted((imported_digests(config, facts.imported_before) | source_digests(config)).items()))
    check_equal_sources(ranks, sources)

    def check() -> list[str]:
        step = newest_checkpoint_step(folder)
        return check_same_sources(config, folder, step, sources, accept=facts.accepts)

    accepted = sorted({*facts.accepted, *ranks.on_main(check)})
    versions = facts.recorded["versions"] | package_versions(config)
    packages = package_digests(config)
    recorded = {**facts.recorded, "versions": versions, "packages": packages, "sources": sources}
    return replace(facts, recorded=recorded, accepted=accepted)


def check_equal_sources(ranks: Ranks, sources: Mapping[str, str]) -> None:
    """Checks that modules which several ranks have are the same on all of them. A collective.

    Raises:
        ConfigError: on every rank, if one is not.
    """
    first: dict[str, str] = {}
    for each in ranks.gather_objects(dict(sources)):
        for module, digest in each.items():
            if first.setdefault(module, digest) != digest:
                rule = "is not the same on all ranks; copy it to every node"
                raise ConfigError(f"the source of {module} {rule}")


def main_source(config: Config) -> Path:
    """The file of the user's task or model, or else of what the settings name; by default Lockstep's."""
    files = filter(None, map(source_file, users_modules(config).values()))
    return next(files, Path(lockstep.__file__))


def facts_of_start(
    config: Config, folder: Path, ranks: Ranks, accepted: list[str], *, accepts: bool
) -> tuple[Ranks, StartFacts]:
    """The ranks with the number of threads of the start before, and what this start records of itself.

    Args:
        config: the settings of this start.
        folder: of the run.
        ranks: all of them must call it.
        accepted: the user's modules that have changed.
        accepts: whether the run may continue with changed source.

    Raises:
        ConfigError: on every rank, if the ranks differ in what may change bits, and the reduction is exact.
    """
    before, shortage = ranks.on_main(lambda: recorded_threads(folder)), ""
    notes: list[str] = []
    if ranks.device.type == "cpu":
        now = ranks.num_threads
        ranks, notes = equal_threads(ranks)
        if before:
            ranks, shortage = with_threads(ranks, before)
            how = f"num_threads = {before}, as in the start before, and not {now}: it may change bits"
            notes = notes if shortage else [how] if now != before else []
    here = environment(ranks)
    notes += differing_ranks(ranks, here, is_exact=config.reduction == "exact")
    git = commit_of(main_source(config)) if ranks.is_main else None
    recorded = {**here, "git": git}
    return ranks, StartFacts(
        recorded=recorded,
        imported_before=frozenset(sys.modules),
        accepts=accepts,
        accepted=accepted,
        notes=notes,
        shortage=shortage,
    )


def differing_ranks(ranks: Ranks, here: Mapping[str, Any], *, is_exact: bool) -> list[str]:
    """Compares what may change bits among the ranks, but for their GPUs (`differing_gpus`). A collective.

    Args:
        ranks: all of them must call it.
        here: the environment of this rank.
        is_exact: whether the reduction is exact.

    Returns:
        A warning for each difference.

    Raises:
        ConfigError: on every rank: there is one, and the reduction is exact. No digest would show it, as each
            rank gets the same sum.
    """
    differences = differing_facts(ranks, bit_facts({**here, "gpu": {}}))
    texts = [f"the ranks differ in {name} ({how})" for name, how in differences.items()]
    if texts and is_exact:
        remedy = "start them on identical nodes with the same software and variables, or use --reduction fast"
        raise ConfigError(f"{texts[0]}: exact reduction needs them equal; {remedy}")
    return [f"warning: {text}, so the bits may depend on them" for text in texts]
