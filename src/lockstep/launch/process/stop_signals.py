"""From a signal to a stop that all ranks agree on.

A scheduler's warning (SIGTERM; SIGUSR1 or SIGUSR2, whichever the job asked for; SIGXCPU at a limit of CPU
time), a lost terminal (SIGHUP) and Ctrl-C (SIGINT) set a flag in the process that gets them. While they
compute, the ranks agree (engine/step/stop_agreement.py) whether any of them has its flag set; if so, they
save a checkpoint and exit with code 75, "interrupted, resumable". A second SIGINT does what it would do
without Lockstep: it ends a command, and raises KeyboardInterrupt in a program.

Launchers hide exit codes, and a signal may come before the handlers are installed. So a job script can also
use files, whose paths it gives in environment variables: it creates LOCKSTEP_STOP_FILE to request a stop,
and it finds LOCKSTEP_RESUMABLE_FILE if the run was stopped by a signal and can be resumed. If it started a
program of the user's, it finds in LOCKSTEP_RUN_FOLDER_FILE where the program's run is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from lockstep.launch.launcher.variables import process_rank

Handler = Callable[[int, FrameType | None], Any] | int  # what signal.signal takes
STOP_SIGNALS = (
    *(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU),
    signal.SIGINT,
)
"""Signals that ask a run to save a checkpoint and stop."""


LOOK_EVERY_SECONDS = 1.0
"""Between two looks for the stop file: it may be on a shared file system, and a step may take 1 ms."""


class StopRequest:
    """Whether this process was asked to stop."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._is_set = False
        self._sigint_before: Handler = signal.SIG_DFL
        # Only the main rank looks, and the ranks agree anyway.
        self._stop_file = environ.get("LOCKSTEP_STOP_FILE") if process_rank(environ) == 0 else None
        self._next_look = 0.0
        self._resumable_file = environ.get("LOCKSTEP_RESUMABLE_FILE")

    def install(self) -> None:
        """Takes over the signals; to be called after Accelerate, which may install handlers of its own.

        Outside of the main thread Python can handle no signal: then only the stop file counts.
        """
        if current_thread() is main_thread():
            self._sigint_before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL
            for number in STOP_SIGNALS:
                # nohup ignores SIGHUP so that the run outlives its terminal. Other signals are taken even if
                # they are ignored: a job script protects its launcher from SIGUSR1, and the ranks inherit it.
                if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN):
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            # Whoever presses Ctrl-C twice does not want to wait for a checkpoint.
            signal.signal(signal.SIGINT, self._sigint_before)
        self._is_set = True

    def is_set(self) -> bool:
        """Whether this process got a signal, or, on the main rank, the job script created its stop file."""
        if not self._is_set and self._stop_file is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY_SECONDS
            if os.path.exists(self._stop_file):
                self._is_set = True
        return self._is_set

    def mark_resumable(self) -> None:
        """Lets the job script know that the run can be resumed."""
        if self._resumable_file is not None:
            Path(self._resumable_file).touch()


def tell_run_folder(folder: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Lets the job script know where the run is that now begins, if it asks."""
    if path := environ.get("LOCKSTEP_RUN_FOLDER_FILE"):
        Path(path).write_text(str(folder.absolute()))


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Puts the handlers of the stop signals back, for a program that trains and then continues."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        if current_thread() is main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: not Python's, and nothing here can put it back
                    signal.signal(number, handler)
