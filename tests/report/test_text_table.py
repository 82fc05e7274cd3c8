"""Tables are plain aligned text, whatever the environment and the cells."""

import subprocess
import sys

from lockstep.report import text_table


def test_words_are_aligned_to_the_left_and_numbers_to_the_right():
    assert text_table(
        ["run", "steps", "state"], [["a", "5", "new"], ["long", "12345", "-"]], left=(0, 2)
    ) == (
        "run   steps  state\n"  #
        "a         5  new\n"
        "long  12345  -\n"
    )


def test_cells_are_neither_interpreted_nor_shortened():
    long = "x" * 500
    header, *rows = text_table(
        ["run", "n"], [["[bold]a[/]", "1"], [":smile:", "2"], [long, "3"]]
    ).splitlines()
    assert [row.split() for row in rows] == [["[bold]a[/]", "1"], [":smile:", "2"], [long, "3"]]
    assert {len(line) for line in (header, *rows)} == {503}


def test_wide_characters_count_as_two():
    assert text_table(["run", "n"], [["日本", "1"], ["abcd", "2"]]) == "run   n\n日本  1\nabcd  2\n"


def test_a_forced_colour_terminal_changes_nothing(monkeypatch):
    plain = text_table(["run", "n"], [["a", "1"]])
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "3")):
        monkeypatch.setenv(name, value)
    assert text_table(["run", "n"], [["a", "1"]]) == plain


def test_rich_is_not_imported_before_a_table_is_printed():
    program = "import lockstep.report.text_table, sys; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
