from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lockstep.config import DataConfig
from lockstep.data import DIGIT_FACTS, ImageSamples, ImageStore, chunks_of
from lockstep.data.batches import PIXEL_MEAN, PIXEL_STD
from lockstep.engine import evaluate
from lockstep.errors import ConfigError
from lockstep.task import confusion, image_classification_task, num_correct, worst_mistakes
from runs import fresh_ranks, small_config

CHUNK_SIZE = small_config().batch.eval_size


@pytest.mark.parametrize("num_samples", [1, CHUNK_SIZE - 1, CHUNK_SIZE, 3 * CHUNK_SIZE + 7])
def test_every_sample_is_scored_once(num_samples):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_samples, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (num_samples,), generator=generator)
    samples = ImageSamples(images=ImageStore(images=images, labels=labels))
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    result = evaluate(
        model,
        image_classification_task(small_config()),
        chunks_of(samples, CHUNK_SIZE, 0, 1, ExitStack()),
        fresh_ranks(),
        step=0,
        seed=0,
    )

    assert model.training
    logits = model.eval()((images.unsqueeze(1).float() - PIXEL_MEAN) / PIXEL_STD)
    assert result.num_samples == num_samples
    assert result.values["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.values["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    probabilities = logits.softmax(1).max(1).values
    torch.testing.assert_close(result.columns["confidence"], probabilities, check_device=False)
    worst = worst_mistakes(result, 5)
    assert [int(labels[index]) == int(logits[index].argmax()) for index in worst] == [False] * len(worst)
    assert len(worst) == min(5, num_samples - num_correct(result))
    assert result.columns["loss"][worst].tolist() == sorted(
        result.columns["loss"][worst].tolist(), reverse=True
    )
    counts = confusion(result, 10)
    assert counts.sum() == num_samples
    assert counts.diagonal().sum() == num_correct(result)
    for label in range(10):
        assert counts[label].sum() == (labels == label).sum()


@pytest.mark.parametrize("num_classes", [10, 11])
def test_with_more_than_ten_classes_the_first_five_are_scored_too(num_classes):
    facts = replace(DIGIT_FACTS, classes=tuple(map(str, range(num_classes))))
    labels = torch.arange(CHUNK_SIZE + 40) % num_classes
    samples = ImageSamples(images=ImageStore(images=torch.zeros(len(labels), 28, 28).byte(), labels=labels))
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))
    nn.init.zeros_(model[1].weight)
    model[1].bias.data = torch.arange(num_classes) % 7 + torch.arange(num_classes) / 100
    result = evaluate(
        model,
        image_classification_task(small_config(data=DataConfig(name="folder", root="unused")), facts),
        chunks_of(samples, CHUNK_SIZE, 0, 1, ExitStack()),
        fresh_ranks(),
        step=0,
        seed=0,
    )
    first_five = (labels[:, None] == torch.tensor([6, 5, 4, 10, 3])).any(1)
    expected = {} if num_classes == 10 else {"test_top5_accuracy": first_five.double().mean().item()}
    assert {name: value for name, value in result.record().items() if "top5" in name} == expected


def test_a_label_that_is_no_class_is_refused():
    labels = torch.arange(CHUNK_SIZE + 1) % 10
    labels[-1] = 10
    samples = ImageSamples(images=ImageStore(images=torch.zeros(len(labels), 28, 28).byte(), labels=labels))
    task = replace(
        image_classification_task(small_config()),
        loss=lambda outputs, targets: outputs.new_zeros(len(targets)),
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(ConfigError, match="must be classes from 0 to 9, but there is a 10"):
        evaluate(
            model, task, chunks_of(samples, CHUNK_SIZE, 0, 1, ExitStack()), fresh_ranks(), step=0, seed=0
        )
