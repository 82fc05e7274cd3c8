"""summary.json: the results of a finished run."""

from __future__ import annotations

from typing import Any

from lockstep.engine import PhaseTimer, Run, peak_memory
from lockstep.runs import SUMMARY_FILE, read_starts, to_json, write_atomically
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.runs.history.environment import environment
from lockstep.trainer.finish.final_scores import final_results


def write_summary(run: Run, precision: str, phases: PhaseTimer) -> dict[str, Any]:
    """Writes summary.json for a run at its last step; returns the summary on every rank. All must call it."""
    results, peaks = final_results(run), peak_memory(run.ranks)

    def write() -> dict[str, Any]:
        summary = {
            "task": run.task.name,
            **results,
            "steps": run.step,
            **({"stopped_early": run.step < run.num_steps} if run.intervals.patience else {}),
            "skipped_steps": run.skipped_steps,
            "samples_seen": run.plan.samples_seen(run.step),
            "train_seconds": run.clock.total(),
            "phase_seconds": phases.seconds,
            **peaks,
            "precision": precision,
            "weights_sha256": weights_sha256(run.model.state_dict()),
            **({} if run.average is None else {"ema_sha256": weights_sha256(run.average.state_dict())}),
            **environment(run.ranks),
            "git": (read_starts(run.folder) or [{}])[-1].get("git"),
        }
        write_atomically(run.folder / SUMMARY_FILE, to_json(summary, indent=1) + "\n")
        return summary

    return run.ranks.on_main(write)
