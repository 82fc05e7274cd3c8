"""What this process does that may take only so long, and whether it gets on. Its heartbeat says both.

One thread of a process trains, and it alone writes here; the thread of the lifeline reads. No torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import sysconfig
import time
import traceback
from pathlib import Path
from types import FrameType

from lockstep import errors
from lockstep.launch.liveness.heartbeats import BUSY
from lockstep.launch.process.garbage_collector import collector_paused

OWN = Path(errors.__file__).parent
MAKING = "making"
"""How the activity of a heartbeat begins while what a user's code makes is being made."""
IO_COUNTERS = Path("/proc/self/io")
SHOWING_SECONDS = 2.0
SHOW_STACK = signal.SIGURG
"""Lets a process that reads data print where it stands. Others ignore it, unless they say otherwise."""
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class _State:
    activity = BUSY
    count = 0
    bytes_looked_at = 0


state = _State()


class limited:  # read as a word: `with limited(...)`
    """A block that may take as long as run.timeout_seconds. `advance` begins that time anew.

    Blocks may be nested; the innermost one counts. A class, as it is used for each sample that is read.
    """

    def __init__(self, activity: str) -> None:
        """Args: activity: what the process does inside, as in 'rank 0 has been in step 7, reading data'."""
        self._activity = activity

    def __enter__(self) -> None:
        self._before, state.activity = state.activity, self._activity
        state.count += 1

    def __exit__(self, *_: object) -> None:
        state.activity = self._before
        state.count += 1


def making(what: str) -> limited:
    """A block in which a user's code makes a part of a run. What it reads and writes counts as getting on.

    It may download or prepare data for hours, and cannot call `advance`.
    """
    return limited(f"{MAKING} {what}")


def unlimited() -> limited:
    """A block that may take as long as it needs, inside of one that may not."""
    return limited(BUSY)


def advance() -> None:
    """Notes that this process gets on: it has finished one of several like things."""
    state.count += 1


def progress() -> int:
    """A number that changes as this process gets on; only the thread of the lifeline calls it."""
    return state.count + (_bytes_moved() if state.activity.startswith(MAKING) else 0)


def _bytes_moved() -> int:
    """The bytes that this process has read and written so far; 0 where the system does not count them."""
    try:
        text = IO_COUNTERS.read_text()
        counters = dict(line.split(": ") for line in text.splitlines())
        moved = int(counters["rchar"]) + int(counters["wchar"]) - state.bytes_looked_at
    except (OSError, ValueError, KeyError):
        return 0
    state.bytes_looked_at += len(text)  # the next look finds these bytes counted
    return moved


def frame_of(thread: int) -> FrameType | None:
    """The innermost frame of a thread, by its ident; None if it has ended.

    Before Python 3.11.9 the collector may run in the middle (CPython issue 106883). If it frees a tensor,
    torch lets another thread continue, and should that one start a thread, both wait for each other for ever.
    """
    with collector_paused():
        return sys._current_frames().get(thread)


def line_in_code(frame: FrameType | None) -> str:
    """Where a thread stands: file, line and function of its innermost call that is no library's.

    Args:
        frame: the innermost one of the thread; None: it has ended.
    """
    stack = list(traceback.walk_stack(frame))
    own = [each for each in stack if not _is_of_a_library(each[0].f_code.co_filename)]
    if not stack:
        return "nowhere"
    innermost, line = (own or stack)[0]
    return f"{innermost.f_code.co_filename}:{line}, in {innermost.f_code.co_name}"


def show_stacks_of_children() -> bool:
    """Lets the processes that read data for this one print where they stand; whether there are any."""
    children = multiprocessing.active_children()
    for child in children:
        if child.pid is not None:
            os.kill(child.pid, SHOW_STACK)
    if children:
        time.sleep(SHOWING_SECONDS)
    return bool(children)


def _is_of_a_library(file: str) -> bool:
    """Whether a file belongs to Python or an installed package, other than Lockstep."""
    if Path(file).is_relative_to(OWN):
        return False
    return file.startswith(("<frozen ", *LIBRARIES))
