import pytest
import torch
from torch.nn import functional as F

from lockstep.config import LossConfig
from lockstep.data import MicroBatch
from lockstep.task import build_criterion, share_of_mean

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


def test_shares_of_short_and_whole_micro_batches_add_up_to_the_mean():
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])

    def share(part):
        ids = torch.arange(len(part))
        batch = MicroBatch(inputs=ids, targets=ids, ids=ids, step=0, slot=0, weight=1 / 5, is_last=True)
        return share_of_mean(part, batch)

    assert sum(share(part).total for part in losses.split(2)) == pytest.approx(losses.mean().item())
