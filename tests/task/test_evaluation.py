import math

import pytest
import torch

from lockstep.task import Evaluation

RESULT = Evaluation(
    step=3,
    losses=torch.tensor([0.1, 2.0, 0.3, 5.0, 2.0]),
    predictions=torch.tensor([0, 1, 2, 3, 4]),
    confidences=torch.ones(5),
    labels=torch.tensor([0, 7, 2, 8, 9]),
)


def test_metrics_count_every_sample_once():
    assert RESULT.accuracy == 2 / 5
    assert RESULT.loss == pytest.approx(math.fsum([0.1, 2.0, 0.3, 5.0, 2.0]) / 5)
    summary = RESULT.summary()
    assert summary["test_samples"] == 5
    assert sum(map(sum, summary["confusion"])) == 5


def test_confusion_is_by_label_and_prediction():
    expected = torch.zeros(10, 10, dtype=torch.int64)
    for label, prediction in ((0, 0), (7, 1), (2, 2), (8, 3), (9, 4)):
        expected[label, prediction] = 1
    assert torch.equal(RESULT.confusion, expected)


def test_worst_mistakes_come_first_and_equal_ones_in_their_order():
    assert RESULT.worst_mistakes(10) == [3, 1, 4]
    assert RESULT.worst_mistakes(2) == [3, 1]
