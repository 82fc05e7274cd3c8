import pytest
import torch

from lockstep.task import Evaluation, confusion, is_classification, num_correct, worst_mistakes

RESULT = Evaluation(
    step=3,
    num_samples=5,
    values={"loss": 1.88, "accuracy": 0.4},
    columns={
        "loss": torch.tensor([0.1, 2.0, 0.3, 5.0, 2.0]),
        "prediction": torch.tensor([0, 1, 2, 3, 4]),
        "confidence": torch.tensor([0.9, 0.5, 0.9, 0.6, 0.8]),
        "label": torch.tensor([0, 7, 2, 8, 9]),
    },
)


def test_the_better_of_two_evaluations_has_the_higher_score():
    assert RESULT.score == -1.88
    values = {"step": 3, "num_samples": 5, "values": RESULT.values, "headline": "accuracy"}
    assert Evaluation(**values, higher_is_better=True).score == 0.4
    assert Evaluation(**values).score == -0.4


def test_a_record_names_the_values_of_the_test_data():
    assert RESULT.record() == {"test_loss": 1.88, "test_accuracy": 0.4}


def test_confusion_is_by_label_and_prediction():
    expected = torch.zeros(10, 10, dtype=torch.int64)
    for label, prediction in ((0, 0), (7, 1), (2, 2), (8, 3), (9, 4)):
        expected[label, prediction] = 1
    assert torch.equal(confusion(RESULT, 10), expected)
    assert num_correct(RESULT) == 2


def test_small_integers_are_counted_like_large_ones():
    """An evaluation that was read from its file has classes as bytes, which a product would overflow."""
    columns = {name: torch.tensor([99], dtype=torch.uint8) for name in ("label", "prediction")}
    assert confusion(Evaluation(step=1, num_samples=1, values={}, columns=columns), 100)[99, 99] == 1


def test_worst_mistakes_come_first_and_equal_ones_in_their_order():
    assert worst_mistakes(RESULT, 10) == [3, 1, 4]
    assert worst_mistakes(RESULT, 2) == [3, 1]


def test_without_a_loss_per_sample_the_most_confident_mistakes_come_first():
    columns = {name: column for name, column in RESULT.columns.items() if name != "loss"}
    assert worst_mistakes(Evaluation(step=3, num_samples=5, values={}, columns=columns), 10) == [4, 3, 1]


@pytest.mark.parametrize(
    ("left_out", "is_one"), [("confidence", True), ("label", False), ("prediction", False)]
)
def test_an_evaluation_with_labels_and_predictions_is_of_a_classification(left_out, is_one):
    columns = {name: column for name, column in RESULT.columns.items() if name != left_out}
    assert is_classification(Evaluation(step=3, num_samples=5, values={}, columns=columns)) == is_one
