import pytest
import torch
from torch.nn import functional as F

from lockstep.config import LossConfig
from lockstep.data import MicroBatch
from lockstep.models import build_criterion, share_of_mean

LOGITS = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6)


def test_criteria_are_torchs():
    smooth = build_criterion(LossConfig(label_smoothing=0.1))
    assert torch.equal(
        smooth(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.1)
    )
    squared = build_criterion(LossConfig(name="mse"))
    one_hot = F.one_hot(LABELS, 10).float()
    assert squared(LOGITS, LABELS).mean() == pytest.approx(F.mse_loss(LOGITS, one_hot).item(), rel=1e-6)


def test_padding_never_counts():
    batch = MicroBatch(
        images=torch.zeros(4, 1, 28, 28),
        labels=torch.zeros(4, dtype=torch.long),
        ids=torch.tensor([0, 1, -1, -1]),
        step=0,
        weights=torch.tensor([1 / 8, 1 / 8, 0.0, 0.0]),
        is_last=True,
    )
    assert share_of_mean(torch.tensor([1.0, 2.0, 100.0, 1000.0]), batch) == 3 / 8
