import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lockstep.config import LossConfig
from lockstep.data import ImageStore
from lockstep.data.batches import PIXEL_MEAN, PIXEL_STD
from lockstep.engine import evaluate
from lockstep.engine.evaluation import CHUNK_SIZE
from lockstep.task import build_criterion
from runs import fresh_ranks


@pytest.mark.parametrize("num_samples", [1, CHUNK_SIZE - 1, CHUNK_SIZE, 3 * CHUNK_SIZE + 7])
def test_every_sample_is_scored_once(num_samples):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_samples, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (num_samples,), generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    result = evaluate(
        model,
        build_criterion(LossConfig()),
        ImageStore(images=images, labels=labels),
        fresh_ranks(),
        step=0,
        seed=0,
    )

    assert model.training
    logits = model.eval()((images.unsqueeze(1).float() - PIXEL_MEAN) / PIXEL_STD)
    assert result.num_samples == num_samples
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.accuracy == (logits.argmax(1) == labels).double().mean().item()
    probabilities = logits.softmax(1).max(1).values
    torch.testing.assert_close(result.confidences, probabilities, check_device=False)
    worst = result.worst_mistakes(5)
    assert [int(labels[index]) == int(logits[index].argmax()) for index in worst] == [False] * len(worst)
    assert len(worst) == min(5, num_samples - result.num_correct)
    assert result.losses[worst].tolist() == sorted(result.losses[worst].tolist(), reverse=True)
    assert result.confusion.sum() == num_samples
    assert result.confusion.diagonal().sum() == result.num_correct
    for label in range(10):
        assert result.confusion[label].sum() == (labels == label).sum()
