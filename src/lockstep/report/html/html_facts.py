"""What the HTML report says of the machines and starts of a run: from starts.jsonl and profile/."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep.report.html.html_page import named_values, paragraph, preformatted, table
from lockstep.runs import PROFILE_FOLDER

NAMES = {
    "world_size": "processes",
    "num_threads": "threads per process",
    "cpu": "CPU",
    "gpu": "GPU",
    "git": "commit",
    "sources": "source of",
}
"""Names in starts.jsonl → in the report."""
HIDDEN = ("step", "format", "signature")
"""Not of the machine; and the signature is for its user's own start, not for whom a report is sent to."""
DIGITS = 12
"""Shown of a commit, and of the digest of a user's module."""


def environment(starts: Sequence[Mapping[str, Any]]) -> str:
    """What the newest start ran on, one line for each fact."""
    if not starts:
        return ""
    newest = {name: value for name, value in starts[-1].items() if name not in HIDDEN}
    own = {name: newest.pop(name) for name in ("git", "sources") if name in newest}
    return named_values(dict(_lines("", {**newest.pop("versions", {}), **newest, **own})))


def starts_table(starts: Sequence[Mapping[str, Any]]) -> str:
    """The starts of a run, the first of which begins it and the others resume it."""
    rows = [
        [
            f"{start.get('step', 0):,}",
            start.get("world_size", "-"),
            start.get("device", "-"),
            start.get("num_threads", "-"),
            start.get("versions", {}).get("torch", "-"),
            commit_text(start.get("git")),
        ]
        for start in starts
    ]
    return table(("after step", "processes", "device", "threads per process", "torch", "commit"), rows)


def profile(folder: Path) -> str:
    """The tables that `train.profile` left in a run folder, those of the main rank; empty without."""
    path = folder / PROFILE_FOLDER / "rank-0.txt"
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return preformatted(text) + paragraph(
        f"The trace of each rank is in {PROFILE_FOLDER}/ of the run folder."
    )


def commit_text(git: Mapping[str, Any] | None) -> str:
    """A commit, and whether the file that was run differed from it."""
    if not git:
        return "-"
    return f"{str(git.get('commit'))[:DIGITS]}{'' if git.get('is_clean', True) else ' (modified)'}"


def _lines(prefix: str, value: object) -> list[tuple[str, str]]:
    """A fact by its name, and of a mapping each of its entries; nothing for one that is empty."""
    if prefix == NAMES["git"]:
        return [(prefix, commit_text(value if isinstance(value, Mapping) else None))]
    if isinstance(value, Mapping):
        inner = [(f"{prefix} {NAMES.get(name, name)}".strip(), each) for name, each in value.items()]
        return [line for name, each in inner for line in _lines(name, each)]
    if prefix.startswith(NAMES["sources"]):
        return [(prefix, str(value)[:DIGITS])]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
