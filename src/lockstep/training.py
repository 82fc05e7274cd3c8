"""One start of a run: from its folder, as it stands, to its summary."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lockstep import checkpoint, tracking
from lockstep.assemble import build_run, shared_dataset
from lockstep.config import Config
from lockstep.config_tree import as_dict, run_folder
from lockstep.console import Console, say
from lockstep.data import Dataset
from lockstep.environment import device_name, environment
from lockstep.errors import Interrupted
from lockstep.kept_evaluation import EvaluationFiles
from lockstep.launch import Launch, array_group
from lockstep.loop import train
from lockstep.metrics import MetricsFile, Status
from lockstep.observe import order_checked
from lockstep.plan import window_length
from lockstep.ranks import Ranks, joined, resolve_precision
from lockstep.records import test_record
from lockstep.run import Run
from lockstep.run_files import SUMMARY_FILE, read_metrics
from lockstep.run_folder import begin, check_folder, locked_folder, newest_checkpoint
from lockstep.stopwatch import Phases
from lockstep.tracking.resume_from import place_checkpoint
from lockstep.users_model import topology_warnings


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
    config = in_group(resolve_precision(config, launch))
    window_length(config.batch, launch.world_size, exact=config.reduction == "exact")
    folder = run_folder(config)
    with joined(launch, config.precision) as ranks:
        mode = ranks.on_main(lambda: tracking.wandb_mode(config.tracking.mode))
        with locked_folder(folder, ranks):
            summary = ranks.on_main(lambda: check_folder(config, folder))
            was_finished = summary is not None
            if resume_from and not was_finished:
                ranks.on_main(lambda: place_checkpoint(resume_from, config, folder))
            return Outcome(
                folder=folder,
                summary=summary if summary is not None else _train_to_end(config, mode, ranks, phases),
                was_finished=was_finished,
            )


def _train_to_end(config: Config, mode: str, ranks: Ranks, phases: Phases) -> dict[str, Any]:
    phases.end("join")
    dataset = shared_dataset(config, ranks)
    phases.end("data")
    start = newest_checkpoint(run_folder(config), ranks)
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
        summary = finish(run, phases)
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
                leave_report(run.folder)
            ranks.barrier()  # nor may one leave while the main rank draws, or closes W&B


def _begin(run: Run, mode: str, dataset: Dataset) -> None:
    """What the main rank does before the first step: says what runs, notes it, opens the sinks."""
    say(describe(run, mode))
    for warning in topology_warnings(run.model):
        say(f"warning: {warning}")
    checkpoint.set_aside(run.folder / "checkpoints", run.step)
    changes = begin(run.config, run.folder, run.step, environment(run.ranks))
    if run.step:
        say(f"resuming {run.folder} after step {run.step}")
        if changes:
            say(f"warning: the steps to come may differ in their last bits: {', '.join(changes)}")
    open_sinks(run, mode, dataset)


def open_sinks(run: Run, mode: str, dataset: Dataset) -> None:
    """Opens where the main rank's records go, one by one: those that are open are closed on every way out."""
    run.sinks.append(MetricsFile(run.folder, resume_step=run.step))
    run.sinks.append(Console(run.step, run.num_steps))
    run.sinks.append(EvaluationFiles(run))
    if mode != "disabled":
        tree = {**as_dict(run.config), "environment": environment(run.ranks)}
        wandb_run = tracking.WandbRun(
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


def in_group(config: Config) -> Config:
    """The config with its W&B group: the one that was stated, else that of a SLURM array."""
    group = config.tracking.group or array_group()
    return replace(config, tracking=replace(config.tracking, group=group))


def describe(run: Run, mode: str) -> str:
    """The start-up line: what really runs."""
    config, plan, ranks = run.config, run.plan, run.ranks
    threads = f" (threads: {ranks.num_threads})" if ranks.device.type == "cpu" else ""
    data = f"{config.data.name} {plan.num_samples}+{len(run.test_store)} {config.data.storage}"
    return (
        f"{ranks.world_size} x {device_name(ranks)}{threads} | precision {config.precision} | "
        f"global batch {plan.batch.global_size} = {ranks.world_size} ranks x {plan.window} micro-batches "
        f"x {plan.batch.micro_size} | {config.reduction} reduction | {data} | {run.num_steps} steps | "
        f"W&B {mode} | {run.folder}"
    )


def leave_report(folder: Path) -> None:
    """Draws report/ from what is recorded. No picture is worth a run: trouble with it is one warning."""
    try:
        from lockstep.report import draw_report  # matplotlib, for which no start should wait

        if read_metrics(folder):
            draw_report(folder)
    except Exception as error:
        say(f"warning: no pictures ({error}); to draw them: lockstep report {folder}")


def finish(run: Run, phases: Phases) -> dict[str, Any]:
    """Writes summary.json of a run at its last step; the summary, on every rank."""
    if run.evaluation is None or run.evaluation[0] != run.step:
        test_record(run)
    assert run.evaluation is not None
    result = run.evaluation[1]

    def write() -> dict[str, Any]:
        summary = {
            **result.summary(),
            "best_test_accuracy": max(result.accuracy, checkpoint.best_accuracy(run.folder / "checkpoints")),
            "steps": run.step,
            "skipped_steps": run.skipped_steps,
            "samples_seen": run.plan.samples_seen(run.step),
            "train_seconds": run.clock.total(),
            "phase_seconds": phases.seconds,
            "precision": run.config.precision,
            "weights_sha256": checkpoint.weights_sha256(run.model.state_dict()),
            **environment(run.ranks),
        }
        checkpoint.write_atomically(run.folder / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
        return summary

    return run.ranks.on_main(write)
