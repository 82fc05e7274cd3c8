"""Builds a `Run` from a config: the only module that knows every other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from lockstep import checkpoint, tracking
from lockstep.augment import build_augment
from lockstep.batches import evaluation_store, training_store, windows
from lockstep.checkpoint import Checkpoint
from lockstep.config import Config
from lockstep.config_tree import as_dict, run_folder
from lockstep.console import Console, say
from lockstep.data import Dataset, fetch_dataset, load_dataset
from lockstep.environment import device_name, environment
from lockstep.errors import ConfigError, Interrupted
from lockstep.evaluate import evaluate
from lockstep.launch import Launch
from lockstep.loop import Run, test_record, train
from lockstep.losses import build_criterion
from lockstep.models import KeyedDropout, build_model, topology_warnings
from lockstep.observe import order_checked
from lockstep.optim import build_optimizer
from lockstep.plan import Plan, window_length
from lockstep.ranks import Ranks, joined, resolve_precision
from lockstep.reduction import ExactReduction, FastReduction, Reduction
from lockstep.run_folder import (
    SUMMARY_FILE,
    begin,
    check_folder,
    load_whole,
    locked_folder,
    newest_checkpoint,
)
from lockstep.stopwatch import Stopwatch
from lockstep.tracking import Status

REDUCTIONS: dict[str, Callable[[Accelerator, nn.Module], Reduction]] = {
    "exact": ExactReduction,
    "fast": FastReduction,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a start of a run ended."""

    folder: Path
    summary: dict[str, Any]
    was_finished: bool
    """Whether there was nothing left to do."""


def run_training(config: Config, launch: Launch) -> Outcome:
    """Trains a config to its end, from where its run folder stands. Every process of the launch calls it.

    Raises:
        ConfigError: on every rank, before any training.
        AgreedStop: on every rank, after the same step.
    """
    config = resolve_precision(config, launch)
    window_length(config.batch, launch.world_size, exact=config.reduction == "exact")
    folder = run_folder(config)
    with joined(launch, config.precision) as ranks:
        mode = ranks.on_main(lambda: tracking.wandb_mode(config.tracking.mode))
        with locked_folder(folder, ranks):
            summary = ranks.on_main(lambda: check_folder(config, folder))
            was_finished = summary is not None
            return Outcome(
                folder=folder,
                summary=summary if summary is not None else _train_to_end(config, mode, ranks),
                was_finished=was_finished,
            )


def _train_to_end(config: Config, mode: str, ranks: Ranks) -> dict[str, Any]:
    dataset = shared_dataset(config, ranks)
    start = newest_checkpoint(run_folder(config), ranks)
    run = ranks.together(lambda: build_run(config, ranks, dataset, start))
    run.stop.install()
    status: Status = "failed"
    try:
        ranks.on_main(lambda: _begin(run, mode))
        train(run, do_step=order_checked(run) if config.train.check_order else None)
        summary = finish(run)
        status = "finished"
        return summary
    except Interrupted:
        status = "interrupted"
        ranks.on_main(run.stop.mark_resumable)  # before a rank leaves: its exit code makes launchers kill
        raise
    finally:
        for sink in run.sinks:
            sink.close(status)
        if status != "failed":
            ranks.barrier()  # nor may one leave while the main rank closes W&B


def _begin(run: Run, mode: str) -> None:
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
    open_sinks(run, mode)


def evaluate_checkpoint(path: Path, config: Config, launch: Launch) -> dict[str, Any]:
    """Scores a checkpoint on the test set of a config.

    Args:
        path: a run folder, for its newest whole checkpoint, or one checkpoint in it.
        config: of the run, with the data it is to be scored on.
        launch: what the launcher asked for.

    Raises:
        ConfigError: there is no whole checkpoint, or no data.
    """
    with joined(launch, resolve_precision(config, launch).precision) as ranks:
        is_run = (path / "config.yaml").exists()
        found = newest_checkpoint(path, ranks) if is_run else ranks.on_main(lambda: load_whole(path))
        if found is None:
            raise ConfigError(f"CHECKPOINT = {str(path)!r}: holds no whole checkpoint yet")
        store = evaluation_store(shared_dataset(config, ranks), ranks.device)
        model = build_model(config.model, config.seed)
        model.load_state_dict(found.weights, strict=True)
        ranks.accelerator.prepare_model(model, evaluation_mode=True)  # for autocast; no gradients to reduce
        result = evaluate(model, build_criterion(config.loss), store, ranks)
        return {
            "checkpoint_step": found.step,
            "data": config.data.name,
            **result.summary(),
            "weights_sha256": checkpoint.weights_sha256(found.weights),
        }


def build_run(config: Config, ranks: Ranks, dataset: Dataset, start: Checkpoint | None = None) -> Run:
    """A run at step 0, or where a checkpoint left it: the same on every rank of every topology.

    Raises:
        ConfigError: the sizes do not divide, or a model or module name is unknown.
    """
    plan = Plan(
        seed=config.seed,
        num_samples=len(dataset.train_labels),
        batch=config.batch,
        world_size=ranks.world_size,
        exact=config.reduction == "exact",
    )
    model = build_model(config.model, config.seed).to(ranks.device)
    # A fused optimizer skips an overflowed step inside its kernel, where Accelerate cannot see and count it.
    bare_optimizer = build_optimizer(model, config.optimizer, fused=config.precision != "fp16")
    reduction = REDUCTIONS[config.reduction](ranks.accelerator, model)
    optimizer = ranks.accelerator.prepare_optimizer(bare_optimizer)
    if start is not None:
        model.load_state_dict(start.weights, strict=True)
        optimizer.load_state_dict(start.state["optimizer"])
        if ranks.accelerator.scaler is not None:
            ranks.accelerator.scaler.load_state_dict(start.state["scaler"])
    train_store = training_store(dataset, ranks.device)
    return Run(
        step=start.step if start else 0,
        skipped_steps=start.state["skipped_steps"] if start else 0,
        clock=Stopwatch(start.step if start else 0, start.info["train_seconds"] if start else 0.0),
        config=config,
        folder=run_folder(config),
        num_steps=config.train.steps or config.train.epochs * plan.steps_per_epoch,
        ranks=ranks,
        plan=plan,
        model=model,
        trained=[parameter for parameter in model.parameters() if parameter.requires_grad],
        optimizer=optimizer,
        criterion=build_criterion(config.loss),
        reduction=reduction,
        windows=windows(
            train_store,
            plan,
            ranks.rank,
            first_step=start.step if start else 0,
            augment=build_augment(config.augment, config.seed),
        ),
        dropouts=[module for module in model.modules() if isinstance(module, KeyedDropout)],
        train_store=train_store,
        test_store=evaluation_store(dataset, ranks.device),
    )


def shared_dataset(config: Config, ranks: Ranks) -> Dataset:
    """The data, fetched by the main rank first: a source that is out of reach is tried once."""
    ranks.on_main(lambda: fetch_dataset(config.data))
    return ranks.together(lambda: load_dataset(config.data, config.seed))


def open_sinks(run: Run, mode: str) -> None:
    """Opens where the main rank's records go, one by one: those that are open are closed on every way out."""
    run.sinks.append(tracking.MetricsFile(run.folder, resume_step=run.step))
    run.sinks.append(Console(run.step, run.num_steps))
    if mode != "disabled":
        tree = {**as_dict(run.config), "environment": environment(run.ranks)}
        run.sinks.append(tracking.WandbRun(run.folder, run.config.tracking, mode, tree, notify=say))


def describe(run: Run, mode: str) -> str:
    """The start-up line: what really runs."""
    config, plan, ranks = run.config, run.plan, run.ranks
    threads = f" (threads: {ranks.num_threads})" if ranks.device.type == "cpu" else ""
    data = f"{config.data.name} {plan.num_samples}+{len(run.test_store.labels)}"
    return (
        f"{ranks.world_size} x {device_name(ranks)}{threads} | precision {config.precision} | "
        f"global batch {plan.batch.global_size} = {ranks.world_size} ranks x {plan.window} micro-batches "
        f"x {plan.batch.micro_size} | {config.reduction} reduction | {data} | {run.num_steps} steps | "
        f"W&B {mode} | {run.folder}"
    )


def finish(run: Run) -> dict[str, Any]:
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
            "precision": run.config.precision,
            "weights_sha256": checkpoint.weights_sha256(run.model.state_dict()),
            **environment(run.ranks),
        }
        checkpoint.write_atomically(run.folder / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
        return summary

    return run.ranks.on_main(write)
