"""Builds a `Run` from a config: the only module that knows every part of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from lockstep import checkpoint
from lockstep.augment import build_augment
from lockstep.batches import Span, resident_spans, windows
from lockstep.checkpoint import Checkpoint
from lockstep.config import Config
from lockstep.config_tree import run_folder
from lockstep.data import Dataset, ImageFiles, fetch_dataset, load_dataset
from lockstep.errors import ConfigError, require
from lockstep.evaluate import evaluate
from lockstep.launch import Launch
from lockstep.losses import build_criterion
from lockstep.models import KeyedDropout, build_model
from lockstep.optim import build_optimizer
from lockstep.plan import Plan
from lockstep.ranks import Ranks, joined, resolve_precision
from lockstep.reduction import ExactReduction, FastReduction, Reduction
from lockstep.run import Run
from lockstep.run_folder import load_whole, newest_checkpoint
from lockstep.stopwatch import PartTimer, Stopwatch
from lockstep.streaming import ReadAhead, SpanReader

REDUCTIONS: dict[str, Callable[[Accelerator, nn.Module], Reduction]] = {
    "exact": ExactReduction,
    "fast": FastReduction,
}


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
        store = shared_dataset(config, ranks).test.to(ranks.device)
        model = ranks.together(lambda: build_model(config.model, config.seed))
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        fits = shapes == {name: value.shape for name, value in found.weights.items()}
        require(fits, "model.name", config.model.name, "is not the network of these weights; leave it out")
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
        ConfigError: on every rank: the sizes do not divide, or a model or module name is unknown.
    """
    plan, model, bare_optimizer = ranks.together(lambda: _parts(config, ranks, dataset))
    reduction = REDUCTIONS[config.reduction](ranks.accelerator, model)
    optimizer = ranks.accelerator.prepare_optimizer(bare_optimizer)
    if start is not None:
        model.load_state_dict(start.weights, strict=True)
        optimizer.load_state_dict(start.state["optimizer"])
        if ranks.accelerator.scaler is not None:
            ranks.accelerator.scaler.load_state_dict(start.state["scaler"])
    first_step = start.step if start else 0
    closing = ExitStack()
    spans: Iterable[Span]
    train_images = dataset.train
    if isinstance(train_images, ImageFiles):
        reader = SpanReader(train_images, plan, ranks.rank, first_step)
        spans = closing.enter_context(ReadAhead(reader, ranks.device, config.data.num_workers))
    else:
        train_images = train_images.to(ranks.device)
        spans = resident_spans(train_images, plan, ranks.rank, first_step)
    return Run(
        step=first_step,
        skipped_steps=start.state["skipped_steps"] if start else 0,
        clock=Stopwatch(first_step, start.info["train_seconds"] if start else 0.0, ranks.device),
        parts=PartTimer(ranks.device),
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
        windows=windows(spans, plan, first_step, build_augment(config.augment, config.seed)),
        dropouts=[module for module in model.modules() if isinstance(module, KeyedDropout)],
        train_images=train_images,
        test_store=dataset.test.to(ranks.device),
        closing=closing,
    )


def _parts(config: Config, ranks: Ranks, dataset: Dataset) -> tuple[Plan, nn.Module, torch.optim.Optimizer]:
    """All that a config may be wrong about, made without the other ranks."""
    plan = Plan(
        seed=config.seed,
        num_samples=len(dataset.train),
        batch=config.batch,
        world_size=ranks.world_size,
        exact=config.reduction == "exact",
    )
    model = build_model(config.model, config.seed).to(ranks.device)
    # A fused optimizer skips an overflowed step inside its kernel, where Accelerate cannot see and count it.
    fused = None if config.precision == "fp16" else True
    return plan, model, build_optimizer(model, config.optimizer, fused=fused)


def shared_dataset(config: Config, ranks: Ranks) -> Dataset:
    """The data, fetched by the main rank first: a source that is out of reach is tried once."""
    ranks.on_main(lambda: fetch_dataset(config.data))
    return ranks.together(lambda: load_dataset(config.data, config.seed))
