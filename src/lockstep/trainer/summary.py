"""summary.json: the results of a finished run."""

from __future__ import annotations

from typing import Any

from lockstep.engine import PhaseTimer, Run, score_test_set
from lockstep.runs import CHECKPOINTS_FOLDER, SUMMARY_FILE, to_json, write_atomically
from lockstep.runs.checkpoint import weights_sha256
from lockstep.runs.checkpoint_folder import best_saved_score
from lockstep.runs.environment import environment
from lockstep.trainer.parts import task_facts
from lockstep.trainer.scoring import summary_of


def write_summary(run: Run, precision: str, phases: PhaseTimer) -> dict[str, Any]:
    """Writes summary.json for a run at its last step; returns the summary on every rank. All must call it."""
    is_scored = run.evaluation is not None and run.evaluation.step == run.step
    if run.test_samples is not None and not is_scored:
        score_test_set(run)

    def write() -> dict[str, Any]:
        summary = {
            "task": run.task.name,
            **_test_results(run),
            "steps": run.step,
            "skipped_steps": run.skipped_steps,
            "samples_seen": run.plan.samples_seen(run.step),
            "train_seconds": run.clock.total(),
            "phase_seconds": phases.seconds,
            "precision": precision,
            "weights_sha256": weights_sha256(run.model.state_dict()),
            **environment(run.ranks),
        }
        write_atomically(run.folder / SUMMARY_FILE, to_json(summary, indent=1) + "\n")
        return summary

    return run.ranks.on_main(write)


def _test_results(run: Run) -> dict[str, Any]:
    """The last and the best test values; empty if there is no test data."""
    result = run.evaluation
    if result is None:
        return {}
    facts = task_facts(run.task)
    best = max(result.score, best_saved_score(run.folder / CHECKPOINTS_FOLDER))
    return summary_of(run.task, result) | {facts.best_key: facts.score(best)}
