"""How far the upload of one start of a run has come, and what may follow what."""

from __future__ import annotations

from enum import Enum, auto
from threading import Condition


class Stage(Enum):
    """How far an upload has come."""

    CONNECTING = auto()
    """The first attempt to open the W&B run has not ended yet."""
    RETRYING = auto()
    """The server did not open the run; the user knows, and further attempts follow."""
    SENDING = auto()
    """W&B takes the records, and nothing has been lost since it opened the run."""
    INCOMPLETE = auto()
    """W&B misses something of this start; the user knows why. Sending continues where that is possible."""
    COMPLETE = auto()
    """The server has all that the run folder holds for it."""
    ABANDONED = auto()
    """This start no longer waits for the upload; the user knows how to finish it later."""


NEXT_STAGES: dict[Stage, set[Stage]] = {
    Stage.CONNECTING: {Stage.RETRYING, Stage.SENDING, Stage.INCOMPLETE, Stage.ABANDONED},
    Stage.RETRYING: {Stage.SENDING, Stage.INCOMPLETE, Stage.ABANDONED},
    Stage.SENDING: {Stage.INCOMPLETE, Stage.COMPLETE, Stage.ABANDONED},
    Stage.INCOMPLETE: {Stage.ABANDONED},
    Stage.COMPLETE: set(),
    Stage.ABANDONED: set(),
}
"""No stage follows itself, so what is reported on entering a stage is reported once."""


class UploadState:
    """The stage of one upload, shared by the training thread and the background thread."""

    def __init__(self) -> None:
        self._stage = Stage.CONNECTING
        self._changed = Condition()

    @property
    def stage(self) -> Stage:
        return self._stage

    def enter(self, stage: Stage) -> bool:
        """Enters a stage if it may follow the present one; whether it did."""
        with self._changed:
            if stage not in NEXT_STAGES[self._stage]:
                return False
            self._stage = stage
            self._changed.notify_all()
            return True

    def wait_while(self, stage: Stage, seconds: float) -> bool:
        """Waits until the stage is another one, at most `seconds`; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stage is not stage, seconds)
