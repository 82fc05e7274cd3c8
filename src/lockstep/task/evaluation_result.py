"""What an evaluation found: the mean of the loss and of each metric, and what is known of each sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a whole data set. The same on every rank."""

    step: int
    """Optimizer steps done before this evaluation."""
    num_samples: int
    values: Mapping[str, float | None]
    """'loss' and the metrics by name: means over the set, summed in float64 in the order of the samples. None
    for a metric that is not finite, as when nothing was counted."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """What is known of each sample, by name, each (samples, ...) on the CPU, in the order of the samples."""
    headline: str = "loss"
    """The value that says which of two evaluations is better."""
    higher_is_better: bool = False
    split: str = "test"
    """What was scored: 'test' or 'validation'."""
    is_average: bool = False
    """Whether the moving average of the weights was scored, instead of the weights."""

    @property
    def score(self) -> float:
        """The headline value, negated if lower is better: of two evaluations, the higher one is better."""
        value = self.values[self.headline]
        assert value is not None, "an evaluation without a headline value stops the run"
        return value if self.higher_is_better else -value

    def record(self) -> dict[str, float | None]:
        """The values as a record names them: 'test_loss', 'ema_validation_loss' and so on."""
        prefix = f"{'ema_' if self.is_average else ''}{self.split}_"
        return {prefix + name: value for name, value in self.values.items()}
