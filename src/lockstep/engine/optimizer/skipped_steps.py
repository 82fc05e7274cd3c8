"""The steps that change no weight. In fp16 with a fused optimizer the device skips them, and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lockstep.engine.optimizer.optimizer import learning_rate, rates_on_device
from lockstep.engine.optimizer.weight_average import WeightAverage

NUM_UPDATES = 1024
"""Updates whose learning rates lie on the device at a time."""


class SkippedSteps:
    """Counts a run's skipped steps: those whose gradient overflowed in fp16, or whose loss counted nothing.

    A fused optimizer takes the scaler's verdict on the device: it leaves weights and state alone if the
    gradient overflowed. So nobody waits for it, and the number of updates, which the learning rate depends
    on, is known to the device alone until someone asks. The first update of a start waits, as torch's fused
    SGD would keep a momentum that it has not set if it skipped the step that makes it.
    """

    def __init__(self, count: int = 0) -> None:
        """Args: count: steps skipped so far."""
        self._count, self._is_known, self._has_updated = count, True, False
        self._rates: Tensor | None = None
        self._first_step, self._count_before = 0, 0  # when `_rates` was made
        self._since = torch.zeros(1)  # skipped since then
        self._latest = torch.zeros(1)  # column of `_rates`

    def count(self, optimizer: torch.optim.Optimizer) -> int:
        """How many there are. May wait for the device, and then sets the rates of the latest update too."""
        if not self._is_known:
            skipped, *rates = torch.cat([self._since, self._latest]).tolist()
            for group, rate in zip(optimizer.param_groups, rates, strict=False):
                group["lr"] = rate
            self._count, self._is_known = self._count_before + int(skipped), True
        return self._count

    def add(self, optimizer: torch.optim.Optimizer, *, is_skipped: bool) -> None:
        """Counts a step of which the host knows whether it was skipped."""
        self._count = self.count(optimizer) + is_skipped
        self._has_updated |= not is_skipped
        self._rates = None

    def can_update(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimizer can leave it to the device whether a step is skipped."""
        return self._has_updated and all(group.get("fused") for group in optimizer.param_groups)

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: WeightAverage | None,
        step: int,
        num_steps: int,
        lr_factor: Callable[[int], float],
    ) -> None:
        """Updates weights, their moving average, if there is one, and loss scale; counts the step.

        Args:
            optimizer: the bare one, whose gradients the scaler has unscaled.
            scaler: the gradient scaler.
            average: the moving average of the weights.
            step: steps taken before this one.
            num_steps: of the whole run.
            lr_factor: as in `Run`.
        """
        (overflow,) = scaler._found_inf_per_device(optimizer).values()  # 1.0 or 0.0, ()
        if self._rates is None or step - self._first_step >= self._rates.shape[1]:
            self._first_step, self._count_before = step, self.count(optimizer)
            first = step - self._count_before
            updates = range(first, first + max(1, min(NUM_UPDATES, num_steps - first)))
            self._rates = _rates(optimizer.param_groups, average, updates, lr_factor, overflow.device)
            self._since = torch.zeros(1, dtype=torch.float64, device=overflow.device)
        self._is_known = False
        column = (step - self._first_step - self._since).long()
        self._latest = self._rates.index_select(1, column).squeeze(1)
        rates = self._latest if overflow.device.type == "cpu" else self._latest.float()
        # What torch's scaler does with an optimizer that reads them.
        optimizer.found_inf, optimizer.grad_scale = overflow, None  # type: ignore[attr-defined]
        with rates_on_device(optimizer, rates[: len(optimizer.param_groups)].unbind()):
            optimizer.step()
        del optimizer.found_inf, optimizer.grad_scale  # type: ignore[attr-defined]
        scaler.update()
        self._since.add_(overflow)
        if average is not None:
            average.update_unless(overflow, self._latest[-1])


def _rates(
    groups: Sequence[dict[str, Any]],
    average: WeightAverage | None,
    updates: range,
    lr_factor: Callable[[int], float],
    device: torch.device,
) -> Tensor:
    """Each group's learning rate, and the weight of the weights in their average: (groups, 1; updates)."""
    factors = [lr_factor(update) for update in updates]
    rows = [[learning_rate(group, factor) for factor in factors] for group in groups]
    if average is not None:
        rows.append([average.weight(update + 1) for update in updates])
    return torch.tensor(rows, dtype=torch.float64, device=device)
