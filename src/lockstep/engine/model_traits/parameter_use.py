"""Which parameters a model's forward uses: always, sometimes (stochastic depth, experts) or never."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, kw_only=True)
class ParameterUse:
    """Names of the trained parameters that some micro-batches do not use; the others are always used."""

    sometimes: tuple[str, ...] = ()
    """A gradient that is missing in a micro-batch counts as zero."""
    never: tuple[str, ...] = ()
    """Their gradient stays None, so the optimizer leaves them alone: no decay, no momentum."""

    @classmethod
    def from_counts(
        cls, counts: dict[str, int], num_runs: int, sometimes_used: tuple[str, ...]
    ) -> ParameterUse:
        """Sorts parameters by how many of the trial runs gave each a gradient.

        Args:
            counts: runs with a gradient, by name.
            num_runs: runs in all.
            sometimes_used: names or patterns (such as 'experts.*') that count as sometimes used.
        """
        stated = {name for name in counts if any(fnmatchcase(name, each) for each in sometimes_used)}
        return cls(
            sometimes=tuple(name for name, count in counts.items() if name in stated or 0 < count < num_runs),
            never=tuple(name for name, count in counts.items() if count == 0 and name not in stated),
        )
