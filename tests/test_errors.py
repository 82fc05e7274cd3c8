"""What messages are made of."""

import pytest

from lockstep.errors import counted, first_line, short_message


@pytest.mark.parametrize(
    ("error", "message"),
    [(ValueError("one\ntwo"), "one"), (ValueError(), "ValueError"), (OSError("\nlater"), "OSError")],
)
def test_a_short_message_is_one_line_and_never_empty(error, message):
    assert short_message(error) == message


def test_a_first_line_says_where_a_users_code_raised():
    with pytest.raises(ValueError, match="one") as caught:
        raise ValueError("one\ntwo")
    assert (
        first_line(caught.value) == f"test_errors.py line {caught.traceback[0].lineno + 1}: ValueError: one"
    )


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "rank", "1 rank"), (2, "batch", "2 batches"), (0, "process", "0 processes")],
)
def test_a_count_has_its_noun_in_the_right_number(count, noun, text):
    assert counted(count, noun) == text
