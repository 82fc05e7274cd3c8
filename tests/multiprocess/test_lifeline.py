"""A rank that is gone, or silent, or failed ends the other, which no launcher watches here."""

import os
import re
import signal
import subprocess
import sys

import pytest

from forked import Popen
from processes import ROOT, free_port, run, with_support

WORKER = ROOT / "tests" / "multiprocess" / "lifeline_worker.py"
ENDS = {
    "stopped": "has given no sign of life for 3 s (run.timeout_seconds); it was before its first step",
    "failed": "failed: a sample cannot be read",
    "stuck": f"has been in step 7, computing for 3 s (run.timeout_seconds), at {WORKER}:",
}
STANDSTILLS = {
    "model": ["before its first step, making the model", "hang; if that needs more time, raise run.timeout_"],
    "data": ["before its first step, making the training data", "hang; if that needs more time, raise run."],
    "rehearsal": ["before its first step, trying out the model", "hang"],
    "sample": ["before its first step, reading data", "hang"],
    "metric": ["before its first step, trying out the model", "hang"],
    "worker": [
        "in step 1, reading data",
        "__next__; the processes that read its data stand where it says above",
    ],
    "observer": ["in step 3, between two steps", "hang"],
    "schedule": ["in step 3, between two steps", "hang"],
    "log": ["in step 3, handing a record to Slow", "hang"],
    "close": ["in step 7, closing Slow", "hang"],
}
"""What of a user's never returns → where the rank is then, and in which function."""


def start(what):
    """Two ranks by hand, each its own process."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Popen(
            [sys.executable, str(WORKER), what],
            env={**os.environ, **with_support(), **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]


@pytest.mark.slow
def test_no_rank_waits_for_one_that_is_gone():
    started = {what: start(what) for what in ENDS}
    try:
        for what, words in ENDS.items():
            main = started[what][0]
            _, errors = main.communicate(timeout=120)
            assert main.returncode == 1, (what, errors)
            assert "lockstep: rank 0 stopped: rank 1 on " in errors
            assert words in errors
            assert "Traceback" not in errors
        one = started["stopped"][1]
        one.send_signal(signal.SIGCONT)  # it finds out that it was not there
        _, errors = one.communicate(timeout=60)
        assert (one.returncode, errors.count("lockstep: rank 1 stopped: ")) == (1, 1)
    finally:
        for process in (process for pair in started.values() for process in pair):
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_what_never_returns_ends_the_run_with_the_line_where_it_stands(tmp_path):
    words = [sys.executable, str(WORKER.with_name("standstill_worker.py")), str(tmp_path)]
    # A process that reads data shows where it stands once it has begun to read. Beside all the others, on a
    # busy machine, two seconds are too few for that.
    together = run([*words, *(what for what in STANDSTILLS if what != "worker")], env=with_support())
    reading = run([*words, "worker"], env=with_support())
    for what, (place, function) in STANDSTILLS.items():
        result = reading if what == "worker" else together
        assert f"{what} 1" in result.stdout.splitlines()
        limit = r"for 2 s \(run.timeout_seconds\)"
        line = rf"^lockstep: rank 0 on \S+ has been {place} {limit}, at \S+:\d+, in {function}"
        assert re.search(line, result.stderr, re.MULTILINE), (what, result.stderr)
    assert re.search(r"_worker.py\", line \d+ in __getitem__", reading.stderr)
