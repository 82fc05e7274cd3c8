"""Models that a user might write."""

import os
import signal
import time

from torch import nn

from lockstep.task.models.mlp import Mlp


class FailsOnRankOne(Mlp):
    """Raises on rank 1 in its third forward, the second of training."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        if os.environ.get("RANK") == "1" and self.calls == 3:
            raise RuntimeError("boom in the user's model")
        return super().forward(images)


class Slow(Mlp):
    """Takes a minute for each forward of a step, when the run has taken over the signals; not in trials."""

    def forward(self, images):
        if self.training and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            time.sleep(60)
        return super().forward(images)


class ForwardsTwice(Mlp):
    """Calls itself a second time on rank 1, as a model that scores its own output might."""

    is_inner = False

    def forward(self, images):
        if os.environ.get("RANK") == "1" and not self.is_inner:
            self.is_inner = True
            self(images)
            self.is_inner = False
        return super().forward(images)


class Broken(Mlp):
    """Raises in its first forward in training."""

    def forward(self, images):
        if self.training:
            raise RuntimeError("boom in the user's model")
        return super().forward(images)


class NeedsASize(Mlp):
    def __init__(self, size):
        super().__init__()


class Synced(Mlp):
    def __init__(self):
        super().__init__()
        self.norm = nn.SyncBatchNorm(4)


class ExtraState(Mlp):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


class Features(Mlp):
    def forward(self, images):
        return images.flatten(1)


class Pair(Mlp):
    def forward(self, images):
        return super().forward(images), images


class Frozen(Mlp):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)
