"""Each promise of the README has a section in docs/promises.md, and each test that it names exists."""

import re

from processes import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text()


def test_each_promise_of_the_readme_is_shown() -> None:
    table = (ROOT / "README.md").read_text().partition("## What is promised")[2].partition("\n## ")[0]
    promises = re.findall(r"^\| ([^|]+?) \| ", table, re.MULTILINE)[1:]
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == promises


def test_each_test_that_is_named_exists() -> None:
    """A name that a failed rename left behind would promise what nothing shows."""
    entries = re.split(r"^- ", PAGE, flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    for entry in entries:
        entry = entry.partition("\n\n")[0]
        file = re.match(r"`([\w/]+\.py)`", entry)
        assert file, entry
        text = (ROOT / "tests" / file[1]).read_text()
        names = re.findall(r"`(test_\w+)`", entry)
        assert names, entry
        for name in names:
            assert f"def {name}(" in text, f"{file[1]}: {name}"
