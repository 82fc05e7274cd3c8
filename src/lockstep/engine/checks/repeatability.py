"""Notices on every rank what would make a run depend on its topology."""

from __future__ import annotations

from lockstep.engine.run import Run
from lockstep.errors import RunStopped


def stop_if_not_repeatable(run: Run) -> None:
    """Checks the steps since the last check. All ranks must call it; it waits for the device.

    Raises:
        RunStopped: on every rank: a parameter that counts as never used got a gradient, or micro-batches left
            different values in an integer buffer. Names the step and the parameter or buffer.
    """
    seen = run.ranks.gather_objects((run.reduction.unexpected, run.reduction.buffers.disagreement()))
    for parameter, buffer in seen:
        if parameter:
            raise RunStopped(
                f"step {run.step}: parameter {parameter!r} got a gradient. It had none in the trials before "
                f"step 1, so it was not trained; start a new run with --model.sometimes-used {parameter}"
            )
        if buffer:
            raise RunStopped(
                f"step {run.step}: micro-batches left different values in the integer buffer {buffer!r}, so "
                "its value depends on the topology; do not change it in the training forward"
            )
