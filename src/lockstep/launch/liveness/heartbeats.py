"""The heartbeats of all ranks, and what it means when they stop. No threads, no sockets, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

WAITING = "waiting for the others"
READING = "reading data"
COMPUTING = "computing"
BETWEEN = "between two steps"
EVALUATING = "evaluating"
BUSY = ""
"""Work that has no limit: a checkpoint, a download, a debugger."""


class Heartbeat(NamedTuple):
    """Where a rank is: its step, counted from 0 (-1: before the first), and what it does there.

    What it has done counts on as it gets on: with each micro-batch, each batch of an evaluation, each record.
    """

    step: int = -1
    activity: str = BUSY
    done: int = 0

    def __str__(self) -> str:
        where = "before its first step" if self.step < 0 else f"in step {self.step + 1}"
        return f"{where}, {self.activity}" if self.activity else where


@dataclass(kw_only=True)
class Entry:
    """What is known of one rank. Times are the reader's own, so clocks of nodes need not agree."""

    node: str
    heard_at: float
    changed_at: float
    heartbeat: Heartbeat = field(default_factory=Heartbeat)


@dataclass(kw_only=True)
class Register:
    """The ranks that the main rank hears of."""

    world_size: int
    limit_seconds: float
    entries: dict[int, Entry] = field(default_factory=dict)

    def enter(self, rank: int, node: str, now: float) -> None:
        """A rank has arrived."""
        self.entries[rank] = Entry(node=node, heard_at=now, changed_at=now)

    def hear(self, rank: int, heartbeat: Heartbeat, now: float) -> None:
        """A rank has sent a heartbeat."""
        entry = self.entries[rank]
        if heartbeat != entry.heartbeat:
            entry.heartbeat, entry.changed_at = heartbeat, now
        entry.heard_at = now

    def leave(self, rank: int) -> None:
        """A rank has said goodbye, and owes no more heartbeats."""
        self.entries.pop(rank, None)

    def excuse(self, now: float) -> None:
        """Nobody listened for a while, so nobody was silent."""
        for entry in self.entries.values():
            entry.heard_at = entry.changed_at = now

    def missing(self) -> list[int]:
        """The ranks that have not arrived."""
        return [rank for rank in range(self.world_size) if rank not in self.entries]

    def name(self, rank: int) -> str:
        """A rank with its node, for messages."""
        return f"rank {rank} on {self.entries[rank].node}" if rank in self.entries else f"rank {rank}"

    def verdict(self, now: float) -> str:
        """Why the run cannot continue: who is silent, or that all wait for each other; empty if all is well.

        A rank that sends heartbeats but makes no progress says so itself, as it knows where it stands.
        """
        limit = f"for {self.limit_seconds:g} s (run.timeout_seconds)"
        for rank, entry in self.entries.items():
            if now - entry.heard_at >= self.limit_seconds:
                return f"{self.name(rank)} has given no sign of life {limit}; it was {entry.heartbeat}"
        still = {r: e.heartbeat for r, e in self.entries.items() if now - e.changed_at >= self.limit_seconds}
        if len(still) == self.world_size and all(
            heartbeat.activity == WAITING for heartbeat in still.values()
        ):
            return f"all ranks have waited for each other {limit}; {self.name(0)} was {still[0]}"
        return ""


@dataclass(kw_only=True)
class Standstill:
    """Finds out whether this rank stands still: its heartbeat stays the same in work that has a limit."""

    limit_seconds: float
    _heartbeat: Heartbeat | None = None
    _since: float = 0.0

    def has_come(self, heartbeat: Heartbeat, now: float) -> bool:
        """Whether it has, by a heartbeat of this moment; to be asked again and again."""
        if heartbeat != self._heartbeat:
            self._heartbeat, self._since = heartbeat, now
        return heartbeat.activity not in (BUSY, WAITING) and now - self._since >= self.limit_seconds

    def excuse(self) -> None:
        """The process itself was stopped for a while."""
        self._heartbeat = None


def ranks_text(ranks: Iterable[int], most: int = 8) -> str:
    """Some ranks in words: 'rank 3', 'ranks 1, 2, 5 and 4 more'."""
    numbers = list(ranks)
    if len(numbers) == 1:
        return f"rank {numbers[0]}"
    shown = ", ".join(map(str, numbers[:most]))
    return f"ranks {shown} and {len(numbers) - most} more" if len(numbers) > most else f"ranks {shown}"
