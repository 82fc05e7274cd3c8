"""`lockstep train`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from lockstep.config import take_count, take_option
from lockstep.errors import counted
from lockstep.launch import read_launch
from lockstep.report import say, shown
from lockstep.runs import read_config, read_task_facts


def train(argv: list[str]) -> int:
    """Trains the run that the settings describe, or resumes it."""
    began = time.perf_counter()
    num_processes, words = take_count(argv, "--processes")
    resume_from, flags = take_option(words, "--resume-from")
    accept_source, flags = "--accept-source" in flags, [word for word in flags if word != "--accept-source"]
    if resume_from:
        from lockstep.tracking.artifact_download import artifact_config

        config = artifact_config(resume_from, flags)
    else:
        config = read_config(flags)
    if num_processes == 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as each of several has one
    elif num_processes:
        from lockstep.launch.local_ranks import run_local_ranks

        return run_local_ranks(num_processes, ["train", *words])
    launch = read_launch()
    from lockstep.trainer import run_training

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C: the end, without a traceback
    result = run_training(config, launch, began, resume_from=resume_from, accept_source=accept_source)
    if launch.is_main:
        summary, headline = result.summary, read_task_facts(result.folder).headline
        state = "was already finished" if result.was_finished else "finished"
        say(
            f"{result.folder} {state}: {final_scores(summary, headline)}"
            f"{counted(summary['steps'], 'step')} in {summary['train_seconds']:.1f} s of training, "
            f"weights {summary['weights_sha256'][:12]}"
        )
    return 0


def final_scores(summary: dict[str, Any], headline: str) -> str:
    """The headline value on the test set of the last weights, and of others that the run has."""
    names = {
        f"test {headline}": f"test_{headline}",
        f"best (step {summary.get('best_step')})": f"best_test_{headline}",
    }
    found = {name: summary[key] for name, key in names.items() if key in summary}
    if "best_step" not in summary:  # of an older version, which took the best by the test set
        found = {name: value for name, value in found.items() if not name.startswith("best")}
    return "".join(f"{name} {shown(headline, value)}, " for name, value in found.items())
