"""Starts a long run in the background, for tests that signal, kill and restart it."""

from __future__ import annotations

import os
import signal
import time

from forked import Popen
from processes import BIN, QUICK, ROOT, SCRIPT, run

LONG = [*QUICK, "--train.epochs", "12", "--train.checkpoint-every", "2", "--train.log-every", "1"]
LONG += ["--model.dropout", "0.1", "--augment.shift-pixels", "1"]  # keyed draws must survive a resume too


def start(folder, num_processes, *arguments, recipe=LONG, env=None, **options):
    """Starts the run in the background; its output goes to `folder`/output."""
    words = [str(BIN / "python"), SCRIPT]
    if num_processes > 1:
        words = [
            str(BIN / "torchrun"),
            f"--nproc_per_node={num_processes}",
            "--standalone",
            SCRIPT,
        ]
    words += [*recipe, "--run.dir", str(folder), "--run.name", "run", *arguments]
    with (folder / "output").open("a") as output:
        return Popen(
            words,
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            **options,
        )


def wait_for_step(folder, step, process):
    """Waits until metrics.jsonl has a record of the step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        metrics = folder / "run" / "metrics.jsonl"
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.01)
    raise AssertionError((folder / "output").read_text()[-3000:])


def kill(folder, process):
    """Sends SIGKILL to the launcher and to its workers, which torchrun starts in their own sessions.

    Returns:
        Whether it was killed; False if it had already ended.
    """
    # After --: pkill took a pattern that begins with dashes for an option, and killed nothing.
    result = run(["pkill", "-9", "-f", "--", f"--run.dir {folder} "])
    assert result.returncode in (0, 1), result.stderr  # 1: there is no such process any more
    return process.wait() == -signal.SIGKILL
