"""`lockstep train`."""

from __future__ import annotations

import signal
import time

from lockstep.config import take_option
from lockstep.errors import counted
from lockstep.launch import read_launch
from lockstep.report import say, shown
from lockstep.runs import read_config, read_task_facts


def train(argv: list[str]) -> int:
    """Trains the run that the settings describe, or resumes it."""
    began = time.perf_counter()
    resume_from, flags = take_option(argv, "--resume-from")
    accept_source, flags = "--accept-source" in flags, [word for word in flags if word != "--accept-source"]
    if resume_from:
        from lockstep.tracking.artifact_download import artifact_config

        config = artifact_config(resume_from, flags)
    else:
        config = read_config(flags)
    launch = read_launch()
    from lockstep.trainer import run_training

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C: the end, without a traceback
    result = run_training(config, launch, began, resume_from=resume_from, accept_source=accept_source)
    if launch.is_main:
        summary, headline = result.summary, read_task_facts(result.folder).headline
        state = "was already finished" if result.was_finished else "finished"
        tested = f"test_{headline}" in summary
        score = f"test {headline} {shown(headline, summary[f'test_{headline}'])}, " if tested else ""
        say(
            f"{result.folder} {state}: {score}"
            f"{counted(summary['steps'], 'step')} in {summary['train_seconds']:.1f} s of training, "
            f"weights {summary['weights_sha256'][:12]}"
        )
    return 0
