"""The benchmarks' statistics and tables, and that each program starts. Measures nothing."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import ROOT, side_by_side
from results import Row, publish, ratio, shown
from team import Team

MAKEFILE = (ROOT / "Makefile").read_text()
PROGRAMS = MAKEFILE.partition("BENCHMARKS := ")[2].partition("\n")[0].split()


def result(*rows: Row) -> dict[str, Any]:
    """A result as a program passes it to `publish`."""
    versions = {"torch": "2.0"}
    facts = {
        "device": "Abacus",
        "cores": 2,
        "threads": 1,
        "versions": versions,
        "commit": "abc",
        "load": 0.1,
    }
    return {"command": "python x.py", **facts, "date": "2026-01-01", "rows": [asdict(row) for row in rows]}


def test_blocks_alternate_and_warm_up_rounds_are_dropped() -> None:
    calls: list[str] = []

    def block(name: str) -> int:
        calls.append(name)
        return len(calls)

    results = side_by_side({"a": lambda: block("a"), "b": lambda: block("b")}, rounds=2)
    assert "".join(calls) == "ababab"
    assert results == {"a": [3, 5], "b": [4, 6]}


def test_a_ratio_pairs_the_rounds() -> None:
    # The machine is ten times slower in the last round; that round's ratio is still 3.
    row = ratio("a / b", [2.0, 2.2, 30.0], [1.0, 1.0, 10.0], at_most=2.5)
    assert row.value == 2.2
    assert row.quartiles == pytest.approx((2.1, 2.6))
    assert (row.n, row.target) == (3, "≤ 2.5: met")


def test_a_target_shows_whether_it_is_met() -> None:
    assert Row(what="rate", value=0.9, at_least=0.95).target == "≥ 0.95: **missed**"
    assert Row(what="rate", value=None, at_least=0.95).target == "≥ 0.95"
    assert Row(what="rate", value=0.9).target == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0.98765, "0.9877"), (99.0, "99.00"), (999.96, "1000"), (9086.3, "9,086")]
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_result_replaces_only_its_own_table(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("Before.\n<!-- x: made by its program -->\n<!-- x: end -->\nAfter.\n")
    publish("x", "cpu", result(Row(what="old", value=1.0)), tmp_path)
    publish("x", "cuda", result(Row(what="gpu", value=2.0)), tmp_path)
    publish("x", "cpu", result(Row(what="new", value=3.0, unit="s", quartiles=(2.0, 4.0), n=5)), tmp_path)
    text = page.read_text()
    assert text.startswith("Before.\n<!-- x: made by its program -->\n")
    assert text.endswith("\n<!-- x: end -->\nAfter.\n")
    assert "| new | 3.000 s | 2.000 to 4.000 | 5 |  |" in text
    assert "| gpu | 2.000 |" in text
    assert "old" not in text
    assert json.loads((tmp_path / "benchmarks.json").read_text())["x"]["cpu"]["device"] == "Abacus"


def test_a_section_without_a_gpu_says_so(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("<!-- x: made by its program --><!-- x: end -->")
    publish("x", "cpu", result(Row(what="a", value=None)), tmp_path)
    assert "| a | not measured |  | 1 |  |" in page.read_text()
    assert "On a GPU: not measured." in page.read_text()


def test_a_machine_without_git_does_not_know_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert harness._commit() == "unknown"


def test_a_team_that_does_not_start_is_not_waited_for() -> None:
    bench = harness.Bench(is_quick=True, data_root="", ranks=None)  # type: ignore[arg-type]  # not used
    with pytest.raises(SystemExit, match="did not start"):
        Team(bench, "exact", [([sys.executable, "-c", "raise SystemExit(1)"], {})])


def test_a_page_without_markers_for_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.md").write_text("No markers here.")
    with pytest.raises(ValueError, match=r"benchmarks\.md: must have <!-- x"):
        publish("x", "cpu", result(), tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_has_a_help_text(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "scripts" / "bench" / f"{name}.py"), run_name="__main__")
    assert stopped.value.code == 0
    assert "--quick" in capsys.readouterr().out


def test_the_page_has_markers_for_each_program() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert PROGRAMS
    for name in PROGRAMS:
        assert page.count(f"<!-- {name}: made by its program -->") == 1
        assert page.count(f"<!-- {name}: end -->") == 1
