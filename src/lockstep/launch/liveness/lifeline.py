"""Keeps a rank in touch with the others in a thread, so that no rank waits for one that is gone.

Collectives wait without an end, or fail without a name. So each rank has a connection to the main rank. Once
a second it says there where it is, and the main rank answers. A rank that fails says so. A connection that
closes without a word, and a silence as long as run.timeout_seconds, are failures too. The main rank tells all
others of the first failure, and they end.

The same thread sees whether its own rank gets on. If it does not for as long, the rank says in which line of
code it stands, and ends. So does a rank that is alone.

The threads use no torch: its operations would start another team of OpenMP threads.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lockstep.errors import EXIT_FAILED, ConfigError, PeerError, RankFailed, first_line
from lockstep.launch.liveness import limited_work
from lockstep.launch.liveness.heartbeats import BETWEEN, BUSY, READING, WAITING, Heartbeat, Standstill
from lockstep.launch.liveness.last_words import leave_words

BEAT_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""How long the training thread may take to notice the failure of another rank by itself."""
CLOSING_SECONDS = 120.0
"""How much longer it may then take to close what it has open, such as the log of W&B."""
LISTEN_SECONDS = 2.0
"""How long a rank whose collective fails waits for the word of the rank that is why."""
DEBUGGERS = ("bdb", "pydevd", "_pydevd")
"""How the names of modules begin in which a thread stands that a debugger has stopped."""

Message = dict[str, Any]


class Lifeline(ABC):
    """This rank's connection, and its thread. To be made by the thread that trains."""

    def __init__(self, rank: int, limit_seconds: float) -> None:
        self.rank = rank
        self.limit_seconds = limit_seconds
        self.is_waiting = False
        """Whether the rank waits in a collective; the training thread sets it."""
        self.position: Callable[[], tuple[int, str]] = lambda: (-1, BUSY)
        """Where the rank is in its steps; the training thread sets it, once there are steps."""
        self.node = socket.gethostname()
        self._beat_seconds = min(BEAT_SECONDS, limit_seconds / 4)
        self._failure = ""
        self._ends_at = float("inf")
        self._looked_at = time.monotonic()
        self._own_failure = ""
        self._standstill = Standstill(limit_seconds=limit_seconds)
        self._stands_still = False
        self._is_ending = False
        self._is_closed = False
        self._news = threading.Condition()
        self._trainer = threading.get_ident()
        self._waker, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="lifeline", daemon=True)
        atexit.register(self.close)

    def tell_failure(self, error: BaseException) -> str:
        """Tells the others that this rank fails, unless another failed before: then returns that one's line.

        An error of torch may be only the end of a connection to a rank that failed. So it waits for word.
        """
        self._is_ending = True
        if isinstance(error, RuntimeError):
            self._wait(lambda: bool(self._failure), LISTEN_SECONDS)
        if not self._failure and not self._own_failure and not isinstance(error, PeerError):
            text = str(error) if isinstance(error, RankFailed | ConfigError) else first_line(error)
            self._own_failure = f"rank {self.rank} on {self.node} failed: {' '.join(text.split())}"
            self._wake()
            self._wait(lambda: self._is_closed, LISTEN_SECONDS)
        return self._failure

    def report(self, error: BaseException) -> None:
        """Tells the others that this rank fails.

        Raises:
            PeerError: another failed before, and this rank's error is only torch's word for that.
        """
        failure = self.tell_failure(error)
        if failure and isinstance(error, RuntimeError):
            raise PeerError(failure) from None

    def close(self) -> None:
        """Says goodbye: from now on this rank owes no signs. A process that ends says it in any case."""
        atexit.unregister(self.close)
        if os.getpid() != self._process:
            return  # a fork: the connection is its parent's
        self._is_closed = True
        self._wake()
        self._thread.join(timeout=LISTEN_SECONDS)
        for channel in (self._waker, self._wakes, *self._channels()):
            channel.close()

    def heartbeat(self) -> Heartbeat:
        """Where this rank is."""
        step, activity = -1, BUSY
        with suppress(Exception):  # the run is being built or taken apart
            step, activity = self.position()
        if limited_work.state.activity != BETWEEN:  # outside of the loop, and in what has a name of its own
            activity = limited_work.state.activity
        elif activity == BUSY:
            activity = BETWEEN
        if self.is_waiting:
            activity = WAITING
        elif activity != BUSY and self._is_in_debugger():
            activity = BUSY
        return Heartbeat(step, activity, limited_work.progress())

    def _look_at_itself(self, heartbeat: Heartbeat, now: float) -> None:
        """Notes it as this rank's failure if it stands still."""
        if self._own_failure or self._failure or not self._standstill.has_come(heartbeat, now):
            return
        where = limited_work.line_in_code(limited_work.frame_of(self._trainer))
        if heartbeat.activity == READING and limited_work.show_stacks_of_children():
            where += "; the processes that read its data stand where it says above"
        if heartbeat.activity.startswith(limited_work.MAKING):
            where += "; if that needs more time, raise run.timeout_seconds"
        self._stands_still = True
        self._own_failure = (
            f"rank {self.rank} on {self.node} has been {heartbeat} for {self.limit_seconds:g} s "
            f"(run.timeout_seconds), at {where}"
        )

    def _end_if_it_stands_still(self) -> None:
        """Ends the process, once the others know: its training thread would not."""
        if self._stands_still:
            leave_words(f"lockstep: {self._own_failure}")
            os._exit(EXIT_FAILED)

    def check(self) -> None:
        """Raises PeerError if another rank has failed."""
        if self._failure:
            raise PeerError(self._failure)

    @abstractmethod
    def wait_for_all(self, seconds: float) -> bool:
        """Waits until all ranks have come, or one has failed; whether that is so."""

    @abstractmethod
    def exchange_addresses(self) -> str:
        """To be called once all have come: this node's address towards the others."""

    @abstractmethod
    def _run(self) -> None:
        """What the thread does."""

    @abstractmethod
    def _channels(self) -> list[socket.socket]:
        """The sockets that are open."""

    def _lose(self, failure: str) -> None:
        """Notes the first failure. The training thread may notice it too, as connections end; or never."""
        if not self._failure:
            self._failure, self._ends_at = failure, time.monotonic() + min(GRACE_SECONDS, self.limit_seconds)
            self._notify()

    def _end_if_due(self) -> None:
        """Ends the process if its training thread still waits: nothing else can end a collective."""
        grace = CLOSING_SECONDS if self._is_ending else 0
        if self._failure and time.monotonic() >= self._ends_at + grace:
            leave_words(f"lockstep: rank {self.rank} stopped: {self._failure}")
            os._exit(EXIT_FAILED)

    def _was_suspended(self, now: float) -> bool:
        """Whether this process itself was stopped: it has not yet read what the others said meanwhile."""
        gap, self._looked_at = now - self._looked_at, now
        was_suspended = gap > self.limit_seconds / 2
        if was_suspended:
            self._standstill.excuse()
        return was_suspended

    def _end(self) -> None:
        """Ends the connections. What was sent still arrives, which a plain close may prevent."""
        for channel in self._channels():
            with suppress(OSError):
                channel.shutdown(socket.SHUT_WR)
        self._is_closed = True
        self._notify()

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> bool:
        with self._news:
            return self._news.wait_for(is_done, None if seconds == float("inf") else seconds)

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b".")

    def _is_in_debugger(self) -> bool:
        frame = limited_work.frame_of(self._trainer)
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith(DEBUGGERS):
                return True
            frame = frame.f_back
        return False


class Connection:
    """Messages over a socket, a line of JSON each. It never waits."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.channel.setblocking(False)
        self._rest = b""

    def send(self, **message: Any) -> None:
        """Sends a message; one to a connection that is full or closed is lost, which `receive` notices."""
        with suppress(OSError):
            self.channel.send(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """The messages that have come; None at the end of the connection."""
        try:
            received = self.channel.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self._rest = (self._rest + received).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None  # not one of ours
        return messages if all(isinstance(message, dict) for message in messages) else None
