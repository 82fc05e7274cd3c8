"""settle.py: which parts run, how long, and what they leave. The parts are tiny programs; no GPU is used."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import preparation
import settle as script
from harness import ROOT
from parts import PARTS, SEVERAL, Part

LONG = "import time; time.sleep(60)"
SOME = Part(name="", words=(), seconds=1, takes_data=False, takes_quick=False)
Settle = Callable[..., int]


@pytest.fixture
def settle(tmp_path: Path) -> Settle:
    """Runs programs, name → source, as the parts of a trial; returns the exit code."""

    def settle(programs: dict[str, str], seconds: float = 600, needs: int = 0) -> int:
        parts = [
            replace(SOME, name=name, words=("-c", source), num_gpus=needs)
            for name, source in programs.items()
        ]
        settling = script.Settling("", tmp_path, dict(os.environ), 0, is_quick=True)
        return settling.settle(parts, seconds)

    return settle


def outcomes(folder: Path) -> dict[str, str]:
    """The table's parts and what became of them."""
    lines = (folder / "settled.txt").read_text().splitlines()
    return {line.split()[0]: line.partition(" s  ")[2] for line in lines}


def test_each_part_has_a_program_and_each_benchmark_a_part() -> None:
    for part in PARTS:
        path = part.words[0] if part.words[0] != "-m" else next(word for word in part.words if "/" in word)
        assert (ROOT / path).exists(), part.name
    makefile = (ROOT / "Makefile").read_text()
    benchmarks = set(makefile.partition("BENCHMARKS := ")[2].partition("\n")[0].split())
    # These two need a network of their own and this repository's history, and no GPU.
    assert benchmarks - {part.name for part in PARTS} == {"network", "generality"}
    assert (ROOT / SEVERAL).exists()


def test_the_shares_of_the_parts_on_one_gpu_fit_into_the_time() -> None:
    assert sum(part.seconds for part in PARTS if not part.why_skipped(1)) <= script.SECONDS


def test_what_a_machine_lacks_is_one_line_for_each_part() -> None:
    lacks = {
        num_gpus: {part.name: part.why_skipped(num_gpus) for part in PARTS if part.why_skipped(num_gpus)}
        for num_gpus in range(3)
    }
    needs_one, needs_two = "skipped: needs a GPU", "skipped: needs two GPUs"
    assert lacks[0] == {"tests": needs_one, "several": needs_two, "engines": needs_one}
    assert lacks[1] == {"several": needs_two, "scaling": needs_two, "sharded": needs_two}
    assert lacks[2] == {}


def test_the_table_says_what_became_of_each_part(
    settle: Settle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {"machine": "print('fine')", "speedrun": "raise SystemExit('no pen')", "stall": ""}
    assert settle(programs) == 1
    assert outcomes(tmp_path) == {"machine": "done", "speedrun": "failed (1): no pen", "stall": "done"}
    assert (tmp_path / "machine.log").read_text() == "fine\n"
    printed = capsys.readouterr().out
    assert "2 done, 0 skipped, 1 failed" in printed
    assert printed.startswith((tmp_path / "settled.txt").read_text())


def test_a_later_run_of_some_parts_keeps_the_lines_of_the_others(settle: Settle, tmp_path: Path) -> None:
    settle({"machine": "", "stall": "raise SystemExit(3)"})
    assert settle({"stall": "", "best": ""}) == 0
    assert list(outcomes(tmp_path).items()) == [("machine", "done"), ("best", "done"), ("stall", "done")]


def test_skipped_parts_fail_nothing_and_take_no_time(settle: Settle, tmp_path: Path) -> None:
    assert settle({"engines": LONG}, needs=1) == 0
    assert outcomes(tmp_path) == {"engines": "skipped: needs a GPU"}
    assert not (tmp_path / "engines.log").exists()


def test_a_part_that_is_too_slow_is_stopped_and_the_next_has_its_own_time(
    settle: Settle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "LEAST_SECONDS", 0.0)
    limit = script.GRACE_SECONDS + 0.2
    assert settle({"machine": LONG, "stall": ""}, seconds=2 * limit) == 1
    assert outcomes(tmp_path) == {"machine": "stopped after 0 s", "stall": "done"}


def test_a_part_ends_with_all_that_it_has_started() -> None:
    """It may tidy up first. A child in a session of its own, as torchrun's workers are, ends too."""
    program = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {LONG!r}], start_new_session=True)
try:
    print(child.pid, flush=True)
    time.sleep(60)
finally:
    print("tidy", flush=True)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        script.end_with_all_it_started(process)
        assert process.stdout.read() == b"tidy\n"
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_without_time_no_part_begins(settle: Settle, tmp_path: Path) -> None:
    assert settle({"machine": LONG, "stall": LONG}, seconds=6) == 1
    assert outcomes(tmp_path) == {"machine": "no time", "stall": "no time"}


def test_an_interruption_ends_the_part_and_keeps_the_table(settle: Settle, tmp_path: Path) -> None:
    interrupts = f"import os, signal; os.kill(os.getppid(), signal.SIGINT); {LONG}"
    assert settle({"machine": "", "best": interrupts, "stall": LONG}) == 130
    assert outcomes(tmp_path) == {"machine": "done", "best": "interrupted"}


def test_data_that_are_missing_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        preparation.checked_data_root(str(tmp_path))
    assert stopped.value.code == 2
    assert "has no folder MNIST/raw" in capsys.readouterr().err
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    assert preparation.checked_data_root(os.path.relpath(tmp_path)) == str(tmp_path.resolve())


def test_missing_packages_and_how_to_get_them_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert preparation.missing_packages() == []
    monkeypatch.setattr(preparation, "TEST_PACKAGES", ("no-such-package",))
    monkeypatch.setattr(preparation, "WHEELS", tmp_path)
    with pytest.raises(SystemExit):
        preparation.environment(tmp_path)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    line = capsys.readouterr().err
    assert re.fullmatch(rf".*missing: no-such-package;.*make wheels WHEELS_PYTHON={python}, .*\n", line)


def test_a_run_without_a_gpu_would_measure_the_wrong_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["settle.py", "--only", "machine"])
    stops = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(each) for each in stops]
    try:
        with pytest.raises(SystemExit):
            script.main()
    finally:
        for each, handler in zip(stops, before, strict=True):
            signal.signal(each, handler)
    assert "no CUDA device here; --quick" in capsys.readouterr().err
