"""How the steps of a run reach its device: eagerly, kernel by kernel, or as CUDA graphs."""

from __future__ import annotations

import torch

from lockstep.config import Config
from lockstep.data import MicroBatch
from lockstep.engine import CapturedStep, Run, capture_step


def captured_step(config: Config, run: Run) -> CapturedStep | None:
    """The graphs of a run's steps if its engine is `captured`; None if it is `eager`. All ranks must call it.

    A captured run goes on, and is replayed, on devices without graphs: the bits do not depend on the engine.

    Raises:
        ConfigError: on every rank, if the step cannot be captured.
    """
    names = (config.model.name, config.loss.name)
    is_built_in = not config.task.name and not any(":" in name for name in names)
    # Under fast reduction kernels need not repeat their bits, and the check of a graph compares them.
    by_default = config.engine == "auto" and is_built_in and config.reduction == "exact"
    if run.ranks.device.type != "cuda" or not (config.engine == "captured" or by_default):
        return None
    size = config.batch.micro_samples
    if run.plan.steps_per_epoch < 2 or run.plan.micro_batch_sizes(0)[0] < size:
        return None
    batches = [_whole_batch(run, step, size) for step in range(2)]
    return run.ranks.on_all(lambda: capture_step(run, batches))


def _whole_batch(run: Run, step: int, size: int) -> MicroBatch:
    """The first samples of an early step, as a micro-batch of a whole global batch."""
    ids = torch.from_numpy(run.plan.step_ids(step)[0, :size])
    inputs, targets = run.train_samples.read(ids)
    weight = 1 / run.plan.samples_in_step(0)
    return MicroBatch(inputs=inputs, targets=targets, ids=ids, step=step, slot=0, weight=weight, is_last=True)
