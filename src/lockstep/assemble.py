"""Builds a `Run` from a config: the only module that knows every other."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import torch
from accelerate import Accelerator
from torch import nn

from lockstep import checkpoint, tracking
from lockstep.batches import evaluation_store, training_store, windows
from lockstep.checkpoint import Checkpoint
from lockstep.config import Config, ConfigError
from lockstep.config_tree import as_dict, run_folder
from lockstep.console import Console, say
from lockstep.data import Dataset, fetch_dataset, load_dataset
from lockstep.evaluate import evaluate
from lockstep.launch import Launch
from lockstep.loop import Run, test_record, train
from lockstep.losses import build_criterion
from lockstep.models import build_model
from lockstep.optim import build_optimizer
from lockstep.plan import Plan, window_length
from lockstep.preemption import Interrupted
from lockstep.ranks import Ranks, resolve_precision, start_ranks
from lockstep.reduction import ExactReduction, FastReduction, Reduction
from lockstep.run_folder import SUMMARY_FILE, load_whole, locked_folder, newest_checkpoint, open_folder
from lockstep.tracking import Sink, Status

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
    """
    config = resolve_precision(config, launch)
    mode = tracking.wandb_mode(config.tracking.mode)
    window_length(config.batch, launch.world_size, exact=config.reduction == "exact")
    folder = run_folder(config)
    ranks = start_ranks(launch, config.precision)
    try:
        summary = ranks.on_main(lambda: open_folder(config, folder))
        if summary is not None:
            return Outcome(folder=folder, summary=summary, was_finished=True)
        with locked_folder(folder, ranks):
            summary = _train_to_end(config, mode, ranks)
            return Outcome(folder=folder, summary=summary, was_finished=False)
    finally:
        ranks.close()


def _train_to_end(config: Config, mode: str, ranks: Ranks) -> dict[str, Any]:
    run = build_run(
        config, ranks, shared_dataset(config, ranks), newest_checkpoint(run_folder(config), ranks)
    )
    if ranks.is_main:
        say(describe(run, mode))
        if run.step:
            say(f"resuming {run.folder} after step {run.step}")
        run.sinks = open_sinks(run, mode)
    run.stop.install()
    status: Status = "failed"
    try:
        train(run)
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
        if status == "interrupted":
            ranks.barrier()  # nor may one leave while the main rank closes W&B


def evaluate_checkpoint(path: Path, config: Config, launch: Launch) -> dict[str, Any]:
    """Scores a checkpoint on the test set of a config.

    Args:
        path: a run folder, for its newest whole checkpoint, or one checkpoint in it.
        config: of the run, with the data it is to be scored on.
        launch: what the launcher asked for.

    Raises:
        ConfigError: there is no whole checkpoint, or no data.
    """
    ranks = start_ranks(launch, resolve_precision(config, launch).precision)
    try:
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
    finally:
        ranks.close()


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
    return Run(
        step=start.step if start else 0,
        skipped_steps=start.state["skipped_steps"] if start else 0,
        train_seconds=start.info["train_seconds"] if start else 0.0,
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
        windows=windows(training_store(dataset, ranks.device), plan, ranks.rank, start.step if start else 0),
        test_store=evaluation_store(dataset, ranks.device),
    )


def shared_dataset(config: Config, ranks: Ranks) -> Dataset:
    """The data, fetched by the main rank first: a source that is out of reach is tried once."""
    ranks.on_main(lambda: fetch_dataset(config.data))
    return load_dataset(config.data, config.seed)


def open_sinks(run: Run, mode: str) -> list[Sink]:
    """Where the main rank's records go."""
    sinks: list[Sink] = [
        tracking.MetricsFile(run.folder, resume_step=run.step),
        Console(run.step, run.num_steps),
    ]
    if mode != "disabled":
        topology = {"world_size": run.ranks.world_size, "device": device_name(run.ranks), **versions()}
        sinks.append(tracking.WandbRun(run.folder, run.config.tracking, mode, as_dict(run.config), topology))
    return sinks


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


def device_name(ranks: Ranks) -> str:
    """The device as its maker names it."""
    if ranks.device.type == "cuda":
        return torch.cuda.get_device_name(ranks.device)
    return ranks.device.type


def versions() -> dict[str, str]:
    """The libraries that a run's numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
    }


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
            "train_seconds": run.train_seconds,
            "world_size": run.ranks.world_size,
            "num_threads": run.ranks.num_threads,
            "device": device_name(run.ranks),
            "precision": run.config.precision,
            "weights_sha256": checkpoint.weights_sha256(run.model.state_dict()),
            "versions": versions(),
        }
        checkpoint.write_atomically(run.folder / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
        return summary

    return run.ranks.on_main(write)
