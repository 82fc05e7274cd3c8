"""Builds a `Run` from a config. The only module that knows all parts of a run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from lockstep.config import Config
from lockstep.data import (
    Dataset,
    ImageFiles,
    Prefetcher,
    Span,
    SpanReader,
    build_augment,
    fetch_dataset,
    load_dataset,
    resident_spans,
    windows,
)
from lockstep.engine import (
    Reduction,
    Run,
    StepTimer,
    Stopwatch,
    ask_for_deterministic_kernels,
    build_optimizer,
    lr_factor,
)
from lockstep.launch.ranks import Ranks
from lockstep.plan import Plan
from lockstep.runs import run_path
from lockstep.runs.checkpoint import Checkpoint
from lockstep.task import build_criterion, build_model
from lockstep.trainer.trials import find_traits


def build_run(config: Config, ranks: Ranks, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Run:
    """Builds a run at step 0, or at the step of a checkpoint; the same run on any topology.

    Raises:
        ConfigError: on every rank, if batch sizes do not divide, or a model or module name is unknown.
    """
    plan, model, bare_optimizer = ranks.on_all(lambda: _plan_model_optimizer(config, ranks, dataset))
    prepared = ranks.accelerator.prepare_model(model, evaluation_mode=True)  # for autocast; it adds no DDP
    optimizer = ranks.accelerator.prepare_optimizer(bare_optimizer)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.weights, strict=True)
        optimizer.load_state_dict(checkpoint.state["optimizer"])
        if ranks.accelerator.scaler is not None:
            ranks.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    train_images = dataset.train if isinstance(dataset.train, ImageFiles) else dataset.train.to(ranks.device)
    criterion = build_criterion(config.loss)
    if config.reduction == "exact" and ranks.device.type == "cuda":
        ask_for_deterministic_kernels()
    traits, warnings = find_traits(config, ranks, plan, prepared, criterion, train_images, checkpoint)
    first_step = checkpoint.step if checkpoint else 0
    earlier_seconds = checkpoint.info["train_seconds"] if checkpoint else 0.0
    closing = ExitStack()
    spans: Iterable[Span]
    if isinstance(train_images, ImageFiles):
        reader = SpanReader(train_images, plan, ranks.rank, first_step)
        spans = closing.enter_context(Prefetcher(reader, ranks.device, config.data.num_workers))
    else:
        spans = resident_spans(train_images, plan, ranks.rank, first_step)
    num_steps = config.train.steps or config.train.epochs * plan.steps_per_epoch
    return Run(
        step=first_step,
        skipped_steps=checkpoint.state["skipped_steps"] if checkpoint else 0,
        clock=Stopwatch(first_step, earlier_seconds, ranks.device),
        timer=StepTimer(ranks.device),
        folder=run_path(config),
        seed=config.seed,
        num_steps=num_steps,
        intervals=config.train,
        ranks=ranks,
        plan=plan,
        model=model,
        trained=[parameter for parameter in model.parameters() if parameter.requires_grad],
        optimizer=optimizer,
        criterion=criterion,
        reduction=Reduction(prepared, traits, ranks.world_size, config.reduction),
        traits=traits,
        warnings=warnings,
        max_grad_norm=config.optimizer.max_grad_norm,
        lr_factor=partial(lr_factor, num_steps=num_steps, config=config.schedule),
        windows=windows(spans, plan, ranks.rank, first_step, build_augment(config.augment, config.seed)),
        train_images=train_images,
        test_store=dataset.test.to(ranks.device),
        closing=closing,
    )


def _plan_model_optimizer(
    config: Config, ranks: Ranks, dataset: Dataset
) -> tuple[Plan, nn.Module, torch.optim.Optimizer]:
    """Builds everything that a wrong config can break, without communicating with other ranks."""
    plan = Plan(
        seed=config.seed,
        num_samples=len(dataset.train),
        batch=config.batch,
        world_size=ranks.world_size,
        exact=config.reduction == "exact",
        drop_last=config.data.drop_last,
    )
    model = build_model(config.model, config.seed).to(ranks.device)
    # A fused optimizer skips an overflowed step inside its kernel, where Accelerate cannot see or count it.
    # torch's fused optimizers take no complex parameters.
    is_complex = any(parameter.is_complex() for parameter in model.parameters())
    fused = None if config.precision == "fp16" or is_complex else True
    return plan, model, build_optimizer(model, config.optimizer, fused=fused)


def shared_dataset(config: Config, ranks: Ranks) -> Dataset:
    """Loads the data on every rank after the main rank fetched it; an unreachable source is tried once."""
    ranks.on_main(lambda: fetch_dataset(config.data))
    return ranks.on_all(lambda: load_dataset(config.data, config.seed))
