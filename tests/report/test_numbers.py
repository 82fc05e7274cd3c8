"""How measured values are shown."""

import pytest

from lockstep.report import shown


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.98765, "98.77%"),
        ("test_accuracy", 0.5, "50.00%"),
        ("test_loss", 0.0625, "0.0625"),
        ("f1", 0.123456789, "0.12346"),
        ("perplexity", 1234567.0, "1.2346e+06"),
        ("loss", None, "-"),
    ],
)
def test_an_accuracy_is_a_percentage_and_anything_else_a_number(name, value, text):
    assert shown(name, value) == text
