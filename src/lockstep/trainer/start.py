"""One start of a run: from its folder, as it stands, to its summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lockstep.config import Config, as_dict
from lockstep.data import Dataset
from lockstep.engine import Phases, Run, order_checked, train
from lockstep.errors import Interrupted
from lockstep.launch import Launch, array_group
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks import Ranks
from lockstep.models import topology_warnings
from lockstep.plan import window_length
from lockstep.report import Console, say
from lockstep.runs import CHECKPOINTS_FOLDER, MetricsFile, Status, check_may_resume, read_metrics, run_path
from lockstep.runs.checkpoint_folder import broadcast_newest_checkpoint, hide_checkpoints_after
from lockstep.runs.environment import environment
from lockstep.runs.evaluations import EvaluationSink
from lockstep.runs.folder import locked_folder, note_start
from lockstep.tracking import wandb_mode
from lockstep.tracking.artifact_download import install_checkpoint
from lockstep.tracking.wandb_run import WandbRun
from lockstep.trainer.build import build_run, shared_dataset
from lockstep.trainer.startup_line import startup_line
from lockstep.trainer.summary import write_summary


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a start of a run ended."""

    folder: Path
    summary: dict[str, Any]
    was_finished: bool
    """Whether there was nothing left to do."""


def run_training(config: Config, launch: Launch, began: float, resume_from: str = "") -> Outcome:
    """Trains a config to its end, from where its run folder stands. Every process of the launch calls it.

    Args:
        config: of the run.
        launch: what the launcher asked for.
        began: when the command did, as `time.perf_counter` counts.
        resume_from: a W&B artifact whose checkpoint goes into the run folder first, unless that is as far.

    Raises:
        ConfigError: on every rank, before any training.
        AgreedStop: on every rank, after the same step.
    """
    phases = Phases(began)
    phases.end("import")
    config = with_wandb_group(resolve_precision(config, launch))
    window_length(config.batch, launch.world_size, exact=config.reduction == "exact")
    folder = run_path(config)
    with join_ranks(launch, config.precision) as ranks:
        mode = ranks.on_main(lambda: wandb_mode(config.tracking.mode))
        with locked_folder(folder, ranks):
            summary = ranks.on_main(lambda: check_may_resume(config, folder))
            was_finished = summary is not None
            if resume_from and not was_finished:
                ranks.on_main(lambda: install_checkpoint(resume_from, config, folder))
            return Outcome(
                folder=folder,
                summary=summary if summary is not None else _train_to_end(config, mode, ranks, phases),
                was_finished=was_finished,
            )


def _train_to_end(config: Config, mode: str, ranks: Ranks, phases: Phases) -> dict[str, Any]:
    phases.end("join")
    dataset = shared_dataset(config, ranks)
    phases.end("data")
    start = broadcast_newest_checkpoint(run_path(config), ranks)
    run = build_run(config, ranks, dataset, start)
    run.stop.install()
    status: Status = "failed"
    reason = ""
    try:
        ranks.on_main(lambda: _begin(run, mode, dataset))
        phases.end("set_up")
        train(run, do_step=order_checked(run) if config.train.check_order else None)
        phases.end("train")
        phases.split("train", "evaluate_and_save", run.clock.this_start())
        summary = write_summary(run, phases)
        status = "finished"
        return summary
    except Interrupted:
        status = "interrupted"
        ranks.on_main(run.stop.mark_resumable)  # before a rank leaves: its exit code makes launchers kill
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        for sink in run.sinks:
            sink.close(status, reason)
        run.closing.close()
        if status != "failed":
            if ranks.is_main and config.train.report:
                draw_report_or_warn(run.folder)
            ranks.barrier()  # nor may one leave while the main rank draws, or closes W&B


def _begin(run: Run, mode: str, dataset: Dataset) -> None:
    """What the main rank does before the first step: says what runs, notes it, opens the sinks."""
    say(startup_line(run, mode))
    for warning in topology_warnings(run.model):
        say(f"warning: {warning}")
    hide_checkpoints_after(run.folder / CHECKPOINTS_FOLDER, run.step)
    changes = note_start(run.config, run.folder, run.step, environment(run.ranks))
    if run.step:
        say(f"resuming {run.folder} after step {run.step}")
        if changes:
            say(f"warning: the steps to come may differ in their last bits: {', '.join(changes)}")
    open_sinks(run, mode, dataset)


def open_sinks(run: Run, mode: str, dataset: Dataset) -> None:
    """Opens where the main rank's records go, one by one: those that are open are closed on every way out."""
    run.sinks.append(MetricsFile(run.folder, resume_step=run.step))
    run.sinks.append(Console(run.step, run.num_steps))
    run.sinks.append(EvaluationSink(run.folder, run.step, lambda: run.evaluation, run.test_store.images))
    if mode != "disabled":
        tree = {**as_dict(run.config), "environment": environment(run.ranks)}
        wandb_run = WandbRun(
            run.folder,
            run.config.tracking,
            mode,
            tree,
            notify=say,
            tensors=lambda: weights_and_gradients(run.model),
            dataset=dataset.facts,
        )
        run.sinks.append(wandb_run)


def weights_and_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """What `tracking.watch` shows; after a step, a gradient is that of the global batch, clipped."""
    named = list(model.named_parameters())
    gradients = {f"gradients/{name}": p.grad for name, p in named if p.grad is not None}
    return {f"weights/{name}": p for name, p in named} | gradients


def with_wandb_group(config: Config) -> Config:
    """The config with its W&B group: the one that was stated, else that of a SLURM array."""
    group = config.tracking.group or array_group()
    return replace(config, tracking=replace(config.tracking, group=group))


def draw_report_or_warn(folder: Path) -> None:
    """Draws report/ from what is recorded. No picture is worth a run: trouble with it is one warning."""
    try:
        from lockstep.report.run_report import draw_report  # matplotlib, for which no start should wait

        if read_metrics(folder):
            draw_report(folder)
    except Exception as error:
        say(f"warning: no pictures ({error}); to draw them: lockstep report {folder}")
