"""What is sent to W&B: every call of wandb's for one run. Any of them may block, and may raise."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lockstep.config import TrackingConfig
from lockstep.errors import short_message
from lockstep.runs import DATASET_FILE, Record, Status, read_summary
from lockstep.runs.checkpoints.weights import BEST
from lockstep.runs.saved_evaluations import VALIDATION, read_evaluation
from lockstep.tracking import time_limits
from lockstep.tracking.artifacts.artifacts import dataset_artifact, model_artifacts
from lockstep.tracking.offline.offline_runs import highest_logged_step, upload_offline_starts
from lockstep.tracking.upload.evaluation_tables import evaluation_tables
from lockstep.tracking.wandb_login import ask_server, follow_environment, without_telemetry


class CouldNotConnect(Exception):
    """W&B's server could not be reached, or did not open the run; a later attempt may succeed."""


@dataclass(frozen=True, kw_only=True)
class WandbClient:
    """The wandb calls for one run, made in the order of the methods; wandb is imported by the first one."""

    run_id: str
    folder: Path
    """The run folder."""
    wandb_parent: Path
    """The folder in which wandb makes its own folder, `wandb`."""
    is_online: bool
    tracking: TrackingConfig
    config_tree: dict[str, Any]
    """What W&B shows as the run's config."""
    finish_seconds: float
    """How long wandb may take to finish the run, in `finish` and in its exit hook."""

    def open_run(self) -> tuple[Any, int]:
        """Opens or resumes the run.

        Returns:
            wandb's run, and the first step that W&B does not have yet.

        Raises:
            CouldNotConnect: it is worth another attempt.
        """
        without_telemetry()
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            init_timeout=time_limits.INIT_SECONDS,
            finish_timeout=self.finish_seconds,
            finish_timeout_raises=True,
            disable_git=True,  # wandb's `git diff` runs programs that the current folder's repository names
        )
        # wandb's telemetry would print a traceback of its own if the server is broken.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        _forget_service_of_other_process()
        first_offline_step = 0 if self.is_online else highest_logged_step(self.folder) + 1
        try:
            follow_environment()
            wandb.setup(settings)
            if self.is_online:
                ask_server()
                upload_offline_starts(self.folder)
            run = wandb.init(
                id=self.run_id,
                resume="allow",
                project=self.tracking.project,
                entity=self.tracking.entity or None,
                group=self.tracking.group or None,
                job_type=self.tracking.job_type or None,
                name=self.folder.name,
                dir=self.wandb_parent,
                mode="online" if self.is_online else "offline",
                config=self.config_tree,
                settings=settings,
            )
        except (OSError, wandb.errors.Error) as error:
            raise CouldNotConnect(short_message(error)) from error
        run.define_metric("samples_seen")
        run.define_metric("*", step_metric="samples_seen")
        return run, run.starting_step if self.is_online else first_offline_step

    def forget_attempt(self) -> None:
        """To be called before the next attempt: wandb's service still holds the run id."""
        import wandb

        wandb.teardown()

    def use_dataset(self, run: Any) -> None:
        """Tells W&B which data the run uses, by its digest."""
        import wandb

        path = self.folder / DATASET_FILE
        if self.is_online and path.exists():
            run.use_artifact(dataset_artifact(wandb, path))

    def log_record(self, run: Any, record: Record, tensors: dict[str, torch.Tensor]) -> None:
        """Logs one step as one row, with a histogram of each tensor."""
        import wandb

        row = {key: value for key, value in record.items() if key != "step"}
        run.log(row | _histograms(wandb, tensors), step=record["step"])

    def tell_ending(self, run: Any, status: Status, reason: str) -> None:
        """Says how this start ended: an alert if it failed, and whether it was interrupted."""
        if status == "failed":
            run.alert(f"{self.folder.name} stopped", reason or "see its output", level="ERROR")
        if status == "interrupted":
            run.mark_preempting()

    def log_results(self, run: Any) -> None:
        """Logs what this start has led to: the summary, evaluations and checkpoints."""
        import wandb

        run.summary.update(_summary(self.folder) | evaluation_tables(wandb, self.folder))
        if self.is_online:
            for artifact, aliases in model_artifacts(wandb, self.folder, self.run_id):
                run.log_artifact(artifact, aliases=aliases)

    def finish(self, run: Any, status: Status) -> None:
        """Waits for the uploads and ends the run."""
        run.finish(exit_code=exit_code(status))


def exit_code(status: Status) -> int:
    """What W&B shows as the exit code of a start."""
    return 0 if status == "finished" else 1


def _forget_service_of_other_process() -> None:
    """Lets wandb start its own service process, which writes the files and talks to the server.

    A program that used wandb hands its service on to the processes that it starts, in this variable. By now
    that service may have ended with its program; then wandb would not open the run, and write no file at all.
    """
    name = "WANDB_SERVICE"  # version, process id of the program, how to connect: 3-123-unix-/tmp/socket
    if os.environ.get(name, "").split("-")[1:2] != [str(os.getpid())]:
        os.environ.pop(name, None)


def _summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run; of any other run its best values on the validation set, if any."""
    summary = read_summary(folder)
    if summary is not None:
        return {name: value for name, value in summary.items() if name != "confusion"}  # that is a table
    best = read_evaluation(folder, BEST, VALIDATION)
    return {f"best_{name}": value for name, value in best.scores.record().items()} if best else {}


def _histograms(wandb: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Histograms of the finite values of tensors, by name; none for a tensor without finite values."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    values = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    return {name: wandb.Histogram(array) for name, array in values.items() if array.size}
