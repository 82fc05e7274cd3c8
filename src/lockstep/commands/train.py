"""`lockstep train`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from lockstep.config import take_count, take_option
from lockstep.errors import counted
from lockstep.launch import imported_at_once, read_launch
from lockstep.plan import window_for_reduction
from lockstep.report import say, shown
from lockstep.runs import read_config, read_task_facts


def train(argv: list[str]) -> int:
    """Trains the run that the settings describe, or resumes it."""
    began = time.perf_counter()
    num_processes, words = take_count(argv, "--processes")
    resume_from, flags = take_option(words, "--resume-from")
    accept_source, flags = "--accept-source" in flags, [word for word in flags if word != "--accept-source"]
    if resume_from.startswith("wandb:"):
        from lockstep.tracking.artifacts.artifact_download import artifact_config

        config = artifact_config(resume_from, flags)
    elif resume_from:
        from lockstep.runs.resume.resume_from import resumed_config

        config, resume_from = resumed_config(resume_from, flags), ""  # now a setting of the run
    else:
        config = read_config(flags)
    if num_processes == 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as each of several has one
    elif num_processes:
        window_for_reduction(config.batch, config.reduction, num_processes)  # torch would take seconds
        from lockstep.launch.local_ranks import run_local_ranks

        return run_local_ranks(num_processes, ["train", *words])
    launch = read_launch()
    # Ctrl-C before the first step, or a second one: the end, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with imported_at_once():
        from lockstep.trainer import run_training

    result = run_training(config, launch, began, resume_from=resume_from, accept_source=accept_source)
    if launch.is_main:
        state = "was already finished" if result.was_finished else "finished"
        outcome = outcome_of(result.summary, read_task_facts(result.folder).headline)
        say(f"{result.folder} {state}: {outcome}")
    return 0


def outcome_of(summary: dict[str, Any], headline: str) -> str:
    """A summary in a line: scores, length, and the digest of the weights."""
    early = " (stopped early)" if summary.get("stopped_early") else ""
    return (
        f"{final_scores(summary, headline)}{counted(summary['steps'], 'step')}{early} "
        f"in {summary['train_seconds']:.1f} s of training, weights {summary['weights_sha256'][:12]}"
    )


def final_scores(summary: dict[str, Any], headline: str) -> str:
    """The headline value on the test set of each of the run's weights; without one on the validation set.

    In a summary of an older version the best value was chosen by the test set: it is left out.
    """
    prefixes = {"last": "", "ema": "ema_"}
    if "best_step" in summary:
        prefixes |= {f"best, step {summary['best_step']}": "best_", "best-ema": "best_ema_"}
    for split in ("test", "validation"):
        keys = {name: f"{prefix}{split}_{headline}" for name, prefix in prefixes.items()}
        values = {name: shown(headline, summary[key]) for name, key in keys.items() if key in summary}
        if list(values) == ["last"]:
            return f"{split} {headline} {values['last']}, "
        if values:
            return f"{split} {headline} {', '.join(f'{value} ({name})' for name, value in values.items())}, "
    return ""
