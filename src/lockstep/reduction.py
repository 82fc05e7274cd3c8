"""The gradient sum over micro-batches and ranks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from accelerate import Accelerator
from torch import nn

from lockstep.batches import MicroBatch


class FastReduction:
    """DistributedDataParallel: sums while the last backward of the window is still running.

    It divides by the number of ranks; `loss_scale` undoes that, as the shares of the mean are to be added.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module) -> None:
        self.model = accelerator.prepare_model(model)
        self.loss_scale = float(accelerator.num_processes)
        self._accelerator = accelerator

    def accumulate(self, batch: MicroBatch) -> AbstractContextManager[None]:
        """Surrounds one forward/backward; only the window's last one talks to the other ranks."""
        return nullcontext() if batch.is_last else self._accelerator.no_sync(self.model)
