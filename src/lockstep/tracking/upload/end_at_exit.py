"""What W&B is told if this process ends before its uploads do."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from lockstep.tracking import time_limits


def end_at_exit(exit_code: int, hurry: Callable[[], None]) -> None:
    """Lets wandb end its open runs with an exit code when this process exits, within a time limit.

    wandb's own hook would wait as long as its server, and take the exit code from a `sys.exit` that it has
    replaced: one that was looked up before, as in `sys.exit(main())`, or a SystemExit that nobody catches it
    does not see, and calls the run finished.

    Args:
        exit_code: of the run.
        hurry: does first what else there is to do; may raise.
    """
    is_exiting, is_over = Event(), Event()

    def end() -> None:
        import wandb

        is_exiting.wait()
        with suppress(Exception):
            hurry()
        with suppress(Exception):
            wandb.teardown(exit_code)
        is_over.set()

    def exit_hook() -> None:
        is_exiting.set()
        is_over.wait(time_limits.EXIT_SECONDS)

    Thread(target=end, name="wandb-end", daemon=True).start()  # a process that exits can start none
    atexit.register(exit_hook)  # after wandb's, and so called before it
