"""summary.json: the results of a finished run."""

from __future__ import annotations

import json
from typing import Any

from lockstep.engine import PhaseTimer, Run, score_test_set
from lockstep.runs import CHECKPOINTS_FOLDER, SUMMARY_FILE, write_atomically
from lockstep.runs.checkpoint import weights_sha256
from lockstep.runs.checkpoint_folder import best_saved_accuracy
from lockstep.runs.environment import environment


def write_summary(run: Run, precision: str, phases: PhaseTimer) -> dict[str, Any]:
    """Writes summary.json for a run at its last step; returns the summary on every rank. All must call it."""
    if run.evaluation is None or run.evaluation.step != run.step:
        score_test_set(run)
    assert run.evaluation is not None
    result = run.evaluation

    def write() -> dict[str, Any]:
        summary = {
            **result.summary(),
            "best_test_accuracy": max(result.accuracy, best_saved_accuracy(run.folder / CHECKPOINTS_FOLDER)),
            "steps": run.step,
            "skipped_steps": run.skipped_steps,
            "samples_seen": run.plan.samples_seen(run.step),
            "train_seconds": run.clock.total(),
            "phase_seconds": phases.seconds,
            "precision": precision,
            "weights_sha256": weights_sha256(run.model.state_dict()),
            **environment(run.ranks),
        }
        write_atomically(run.folder / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
        return summary

    return run.ranks.on_main(write)
