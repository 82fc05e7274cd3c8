"""What each start of a run records in the run folder: its settings, its first step, and what it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep.config import Config, to_yaml
from lockstep.runs.folder.files import RUN_FORMAT, SETTINGS_FILE, STARTS_FILE, to_json, write_atomically
from lockstep.runs.history.history import read_starts
from lockstep.runs.history.signature import sign


def record_start(
    config: Config,
    folder: Path,
    step: int,
    environment: dict[str, Any],
    accepted: Sequence[str] = (),
) -> list[str]:
    """Writes the settings, and adds a line to STARTS_FILE.

    Args:
        config: the settings of this start.
        folder: of the run.
        step: the step after which this start begins.
        environment: what it runs on, and as 'sources' what `source_digests` gives.
        accepted: the modules whose source has changed, as the user has said.

    Returns:
        The differences from the environment of the steps before, as far as they may change bits.
    """
    before = environment_at(folder, step)
    settings = to_yaml(config)
    write_atomically(folder / SETTINGS_FILE, settings)
    signature = sign(settings, environment.get("sources", {}))
    facts = {"step": step, "format": RUN_FORMAT, **environment, "signature": signature}
    if accepted:
        facts["accepted_sources"] = list(accepted)
    # As a whole: a line added to one that a kill cut short would make one damaged line of two.
    starts = [*read_starts(folder), facts]
    write_atomically(folder / STARTS_FILE, "".join(f"{to_json(start)}\n" for start in starts))
    return environment_changes(before, environment)


def environment_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two environments that may change bits, such as 'torch 2.11.0 → 2.12.0'.

    What one of them does not know counts as equal.
    """
    old, new = bit_facts(before), bit_facts(now)
    changed = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    return [f"{name} {old[name]} → {new[name]}" for name in changed]


def bit_facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What the bits of a run may depend on, by name: neither its number of ranks nor the user's repository.

    Threads and the kind of CPU count for a run on a CPU, and what decides a GPU's kernels for one on a GPU.
    """
    on_cpu = environment.get("device", "cpu") == "cpu"
    facts = {name: environment[name] for name in ("device",) if name in environment}
    if on_cpu and "num_threads" in environment:
        facts["num_threads"] = environment["num_threads"]
    kind = "cpu" if on_cpu else "gpu"
    facts |= {f"{kind.upper()} {name}": value for name, value in environment.get(kind, {}).items()}
    packages = environment.get("packages", {})
    facts |= {f"the code of {name}": digest[:8] for name, digest in packages.items()}
    return facts | environment.get("versions", {})


def changed_sources(folder: Path, step: int, sources: Mapping[str, str]) -> list[str]:
    """The modules whose source is neither that with which a step of a run was last computed, nor that of the
    newest start, for which the user may have accepted it."""
    before = recorded_sources(folder, step)
    starts = read_starts(folder)
    newest = starts[-1].get("sources", {}) if starts else {}
    return sorted(
        name
        for name in before.keys() & sources.keys()
        if sources[name] not in (before[name], newest.get(name))
    )


def recorded_sources(folder: Path, step: int) -> dict[str, str]:
    """The digests of the user's modules with which a step was last computed: module → SHA-256 of its file."""
    return environment_at(folder, step).get("sources", {})


def environment_at(folder: Path, step: int) -> dict[str, Any]:
    """The environment in which a step was last computed; empty if no start is recorded."""
    starts = [start for start in read_starts(folder) if start["step"] < step]
    return starts[-1] if starts else {}


def recorded_threads(folder: Path) -> int:
    """The number of threads of each rank in the newest start on a CPU; 0 if there was none."""
    starts = [start for start in read_starts(folder) if start.get("device") == "cpu"]
    return starts[-1].get("num_threads", 0) if starts else 0
