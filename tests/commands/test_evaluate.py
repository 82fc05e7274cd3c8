"""`lockstep evaluate`: what it prints."""

import json

from lockstep.commands.evaluate import summary_text


def test_a_row_of_a_matrix_is_a_line():
    summary = {"test_loss": float("nan"), "confusion": [[97, 3], [0, 100]], "data": "mnist"}
    text = summary_text(summary)
    assert json.loads(text) == {**summary, "test_loss": None}
    assert text.splitlines()[2:6] == [' "confusion": [', "  [97, 3],", "  [0, 100]", " ],"]
