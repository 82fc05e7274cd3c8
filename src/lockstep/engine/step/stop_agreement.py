"""Asks all ranks, while they compute, whether any of them was asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from lockstep.engine.run import Run

SECONDS_PER_RANK = 50e-6
"""How long an answer takes for each rank: gloo passes it twice around a ring, in 15 to 25 µs each."""


class StopAgreement:
    """One question at a time. A step is not delayed by it, unless its answer takes longer than the steps do.

    With many ranks an answer takes as long as several steps of a small model, and so it is read some steps
    later: 2 on 16 ranks with steps of 0.5 ms, 52 on 512. How many follows from numbers that all ranks have.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answer: Callable[[], bool] | None = None
        self._due = 0

    def before_step(self) -> None:
        """Asks, unless the last question is open, or there is nothing left to stop. A collective."""
        run = self._run
        if self._answer is None and run.step + 1 < run.num_steps:
            self._answer = run.ranks.begin_agreement(run.stop.is_set)
            seconds = run.ranks.world_size * SECONDS_PER_RANK
            self._due = run.step + (max(1, ceil(seconds / run.step_seconds)) if run.step_seconds else 1)

    def after_step(self, *, may_end: bool) -> bool:
        """Whether the ranks stop after this step; False while the answer is not due.

        Args:
            may_end: whether the run may end here. No rank leaves the group while others wait for its answer.
        """
        if self._answer is None or (self._run.step < self._due and not may_end):
            return False
        answer, self._answer = self._answer, None
        return answer()
