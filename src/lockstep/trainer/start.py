"""One start of a run: from what its folder holds to its summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lockstep.config import Config
from lockstep.data import reported_deaths, restored_generators
from lockstep.engine import NO_OBSERVER, Observer, Observers, OrderCheck, PhaseTimer, Run, snapshot
from lockstep.engine import train as train_loop
from lockstep.errors import Interrupted, require
from lockstep.launch import Launch, array_group, limited, making, read_launch, tell_run_folder
from lockstep.launch.liveness.heartbeats import BETWEEN
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process.process_state import restored_process_state
from lockstep.launch.process_group import join_ranks, launch_of_group
from lockstep.launch.ranks.compare_ranks import check_same_settings
from lockstep.launch.ranks.ranks import Ranks
from lockstep.plan import window_for_reduction
from lockstep.report import say
from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    Sink,
    Status,
    check_may_resume,
    checkpoints_in,
    mend_history,
    read_starts,
    record_start,
    run_path,
)
from lockstep.runs.checkpoints.checkpoint import save_checkpoint
from lockstep.runs.checkpoints.checkpoint_folder import checkpoint_to_resume, set_aside_checkpoints_after
from lockstep.runs.folder.folder_lock import locked_folder
from lockstep.task import Task
from lockstep.tracking import wandb_mode
from lockstep.trainer.build.build import build_run
from lockstep.trainer.build.micro_size import fit_micro_size, named_memory, recorded_micro_size
from lockstep.trainer.finish.draw_report import draw_report_or_warn
from lockstep.trainer.finish.summary import write_summary
from lockstep.trainer.parts.find_task import check_names, find_task, with_task
from lockstep.trainer.parts.parts import Parts, check_same_parts, make_parts, write_parts
from lockstep.trainer.parts.task_data import first_on_each_node
from lockstep.trainer.startup.init_weights import take_initial_weights
from lockstep.trainer.startup.install_checkpoint import install
from lockstep.trainer.startup.open_sinks import close_sinks, open_sinks
from lockstep.trainer.startup.start_facts import StartFacts, check_sources, facts_of_start, with_imported
from lockstep.trainer.startup.startup_line import startup_line


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a start of a run ended."""

    folder: Path
    summary: dict[str, Any]
    was_finished: bool
    """Whether the run was already finished, so that nothing was done."""


def train(
    task: Task | str | Config,
    config: Config | None = None,
    *,
    accept_source: bool = False,
    observers: Sequence[Observer] = (),
    sinks: Sequence[Sink] = (),
) -> TrainingResult:
    """Trains a run to its end, as `lockstep train` does. Resumes it if its folder has a checkpoint.

    Under a launcher, call it in every process. A finished run is not trained again. The process is left as it
    was found; see `restored_process_state`. In another than the main thread no signal stops the run.

    Args:
        task: what is learnt: a `Task`; or 'package.module:function', which returns one. Or only a config, to
            train the built-in task, images in classes.
        config: how it is trained; by default with all settings at their defaults.
        accept_source: continue a run although the source of what it refers to has changed since.
        observers: called at each event of a step, on every rank.
        sinks: receive the records on the main rank, after Lockstep's own sinks. If one fails to close, a
            warning is printed.

    Raises:
        ConfigError: on every rank, before any training.
        Interrupted: on every rank after the same step, if one was asked to stop; a checkpoint is saved. It is
            a SystemExit: a program that does not catch it ends with exit code 75.
        RunStopped: on every rank, if a loss or gradient is not finite or weights differ between ranks.
        DataError: on the rank that cannot read its data. With several ranks, its process must then end.
    """
    began = time.perf_counter()
    if isinstance(task, Config):
        require(config is None, "config", "given twice", "pass a task and a config, or only a config")
        config, chosen = task, None
    else:
        config, chosen = with_task(config or Config(), task), task
    own = chosen if isinstance(chosen, Task) else None
    with restored_process_state(), restored_generators(torch.device("cpu")):
        launch = launch_of_group(read_launch())
        result = run_training(
            config, launch, began, task=own, accept_source=accept_source, observers=observers, sinks=sinks
        )
    if result.was_finished and launch.is_main:
        say(f"{result.folder} was already finished, so nothing was trained")
    return result


def run_training(
    config: Config,
    launch: Launch,
    began: float,
    *,
    task: Task | None = None,
    resume_from: str = "",
    accept_source: bool = False,
    observers: Sequence[Observer] = (),
    sinks: Sequence[Sink] = (),
) -> TrainingResult:
    """Trains a run to its end; see `train`. Every process of the launch must call it.

    Args:
        config: the settings of the run.
        launch: what the launcher started.
        began: when the command began, a value of `time.perf_counter`.
        task: what is learnt; None: as the config says.
        resume_from: a W&B artifact; its checkpoint is put into the run folder first, if it is a later one.
        accept_source: continue a run although the source of what it refers to has changed since.
        observers: called at each event of a step, on every rank.
        sinks: receive the records on the main rank, after Lockstep's own sinks.

    Raises:
        ConfigError: on every rank, before any training.
        AgreedStop: on every rank, after the same step.
    """
    phases = PhaseTimer(began)
    phases.end_phase("import")
    config = with_wandb_group(resolve_precision(config, launch))
    window_for_reduction(config.batch, config.reduction, launch.world_size)
    folder = run_path(config)
    with join_ranks(launch, config.precision, config.run.timeout_seconds) as ranks:
        check_same_settings(config, ranks)
        mode = ranks.on_main(lambda: wandb_mode(config.tracking.mode))
        with locked_folder(folder, ranks):
            ranks.on_main(lambda: mend_history(folder))
            config = ranks.on_main(lambda: recorded_micro_size(config, folder))
            summary = ranks.on_main(lambda: check_may_resume(config, folder))
            if summary is None:
                ranks.on_main(lambda: install(resume_from, config, folder))
            changed = check_sources(config, folder, summary, ranks, accept=accept_source)
            if summary is not None:
                return TrainingResult(folder=folder, summary=summary, was_finished=True)
            ranks, facts = facts_of_start(config, folder, ranks, changed, accepts=accept_source)
            with making("what the settings name"):
                ranks.on_all(lambda: check_names(config))
            config, task = first_on_each_node(ranks, "the task", lambda: find_task(config, task, folder))
            with reported_deaths(), named_memory(config, folder):  # deaths of processes that read its data
                summary = _train_to_end(config, task, mode, ranks, facts, phases, observers, sinks)
            return TrainingResult(folder=folder, summary=summary, was_finished=False)


def _train_to_end(
    config: Config,
    task: Task,
    mode: str,
    ranks: Ranks,
    facts: StartFacts,
    phases: PhaseTimer,
    observers: Sequence[Observer],
    sinks: Sequence[Sink],
) -> dict[str, Any]:
    phases.end_phase("join")
    folder = run_path(config)
    parts = make_parts(config, task, ranks)
    config = fit_micro_size(config, ranks, parts, folder)
    phases.end_phase("data")
    facts = with_imported(config, folder, facts, ranks)
    ranks.on_main(lambda: check_same_parts(parts, folder))
    checkpoint = checkpoint_to_resume(folder, ranks)
    if checkpoint is None:
        take_initial_weights(config.model, parts.model, ranks)
    run = build_run(config, ranks, parts, checkpoint)
    run.stop.install()
    if config.train.check_order:
        observers = [OrderCheck(), *observers]
    status: Status = "failed"
    reason = ""
    try:
        ranks.on_main(lambda: _prepare(config, run, mode, facts, parts, sinks))
        phases.end_phase("set_up")
        with limited(BETWEEN):
            train_loop(run, Observers(*observers) if observers else NO_OBSERVER)
        phases.end_phase("train")
        phases.split_phase("train", run.clock.this_start(), rest="evaluate_and_save")
        summary = write_summary(run, config.precision, phases)
        status = "finished"
        return summary
    except Interrupted as stop:
        status = "interrupted"
        if ranks.is_main:
            say(f"interrupted after step {stop.step}, checkpoint saved; run the same command again to resume")
        ranks.on_main(run.stop.mark_resumable)  # before any rank exits, as launchers then kill the others
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        ranks.report_failure(error)  # first, as the others wait
        raise
    finally:
        close_sinks(run.sinks, status, reason)
        run.closing.close()
        if status != "failed":
            if ranks.is_main and config.train.report:
                draw_report_or_warn(run.folder)
            ranks.barrier()  # no rank may exit while the main rank draws or closes W&B, for the same reason


def _prepare(
    config: Config, run: Run, mode: str, facts: StartFacts, parts: Parts, sinks: Sequence[Sink]
) -> None:
    """On the main rank, before the first step: prints what runs, records the start, opens the sinks."""
    run.sinks.extend(sinks)  # now, so that they are closed even if one of Lockstep's own does not open
    tell_run_folder(run.folder)
    say(startup_line(config, run, mode))
    for note in [*facts.notes, *(f"warning: {each}" for each in run.warnings)]:
        say(note)
    set_aside_checkpoints_after(run.folder, run.step)
    origin = config.train.resume_from if not read_starts(run.folder) else ""
    changes = record_start(config, run.folder, run.step, facts.recorded, facts.accepted)
    if run.step:
        say(f"resuming {run.folder} after step {run.step}{f' of {origin}' if origin else ''}")
        if changes:
            why = f" ({facts.shortage})" if facts.shortage else ""
            say(f"warning: the next steps may differ in their last bits: {', '.join(changes)}{why}")
    write_parts(parts, run.folder)
    is_given = bool(parts.initial_weights or config.model.init_from)
    if is_given and not checkpoints_in(run.folder / CHECKPOINTS_FOLDER):
        save_checkpoint(run.folder / CHECKPOINTS_FOLDER, snapshot(run))  # so that a replay has the weights
    open_sinks(config, run, mode, facts.recorded)
    # Lockstep's own log first: a record is in metrics.jsonl before a program's sink can fail on it.
    run.sinks[:] = [*run.sinks[len(sinks) :], *run.sinks[: len(sinks)]]


def with_wandb_group(config: Config) -> Config:
    """The config with its W&B group: as set, or the SLURM array's by default."""
    group = config.tracking.group or array_group()
    return replace(config, tracking=replace(config.tracking, group=group))
