"""Builds a `Run` from a config and the parts of its task. The only module that knows all parts of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from lockstep.config import Config
from lockstep.data import HeldOutSamples, Samples, chunks_of, worker_warnings
from lockstep.engine import (
    Owners,
    Reduction,
    Run,
    ScoredSet,
    Selection,
    ShardedReduction,
    SkippedSteps,
    StepTimer,
    Stopwatch,
    WeightAverage,
    check_schedule,
    drop_others,
    find_owners,
    lr_factor,
    own_part,
    parameters_of,
    use_deterministic_kernels,
)
from lockstep.errors import require
from lockstep.launch import making
from lockstep.launch.ranks.gpus import connect_gpus, differing_gpus, hidden_gpus, unused_device
from lockstep.launch.ranks.ranks import Ranks
from lockstep.launch.ranks.threads import fullest_node
from lockstep.plan import Plan
from lockstep.runs import run_path
from lockstep.runs.checkpoints.checkpoint import Checkpoint
from lockstep.trainer.build.choose_engine import captured_step
from lockstep.trainer.build.find_traits import find_traits
from lockstep.trainer.parts.make_model import model_setting, set_weights
from lockstep.trainer.parts.parts import Parts

SET_BY_ACCELERATE = ("forward", "_original_forward", "_is_accelerate_prepared")
"""Attributes of a model that `Accelerator.prepare_model` sets."""
RATES = ("base_lr", "weight_decay", "momentum", "betas")
"""What a parameter group has from the settings that may change when a run continues from another."""


def build_run(config: Config, ranks: Ranks, parts: Parts, checkpoint: Checkpoint | None = None) -> Run:
    """Builds a run at step 0, or at the step of a checkpoint; the same run on any topology.

    Raises:
        ConfigError: on every rank, if batch sizes do not divide, the trials of the model fail, or the ranks'
            GPUs are not equal and the reduction is exact. The model and the processes are then as before.
    """
    with ExitStack() as closing:
        run = _built(config, ranks, parts, checkpoint, closing)
        run.closing = closing.pop_all()
    return run


def _built(
    config: Config, ranks: Ranks, parts: Parts, checkpoint: Checkpoint | None, closing: ExitStack
) -> Run:
    plan = ranks.on_all(lambda: make_plan(config, ranks, len(parts.train), parts.num_held_out))
    model = parts.model
    prepared = prepare_forward(model, ranks, closing)
    optimizer = ranks.accelerator.prepare_optimizer(parts.optimizer)
    owners: Owners | None = None
    if config.optimizer.sharded and ranks.world_size > 1:
        owners = find_owners(parameters_of(optimizer.optimizer), ranks.world_size)
        drop_others(optimizer.optimizer, owners, ranks.rank)
    if checkpoint is not None:
        ranks.on_all(lambda: set_weights(model_setting(config, parts.task), model, checkpoint.weights))
        state = checkpoint.state["optimizer"]
        if owners is not None:
            state = own_part(state, optimizer.optimizer, owners, ranks.rank)
        load_optimizer(optimizer, state, keeps_rates=bool(config.train.resume_from))
        if ranks.accelerator.scaler is not None:
            ranks.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    average = WeightAverage(model, config.train.ema) if config.train.ema else None
    if average is not None and checkpoint is not None and checkpoint.ema is not None:
        average.load_state_dict(checkpoint.ema)
    if config.reduction == "exact" and ranks.device.type == "cuda":
        allowed = config.train.allow_nondeterministic
        ranks.on_all(lambda: use_deterministic_kernels(allow_nondeterministic=allowed))
    unused = unused_device(torch.accelerator.current_accelerator(check_available=True))
    differences = differing_gpus(ranks, is_exact=config.reduction == "exact") + hidden_gpus(ranks)
    traits, warnings = find_traits(config, ranks, plan, prepared, parts, checkpoint)
    first_step = checkpoint.step if checkpoint else 0
    earlier_seconds = checkpoint.info["train_seconds"] if checkpoint else 0.0
    num_steps = config.train.steps or config.train.epochs * plan.steps_per_epoch
    with making("the schedule"):
        ranks.on_all(lambda: check_schedule(num_steps, config.schedule))
    rule = f"ends the run at step {num_steps}, but its checkpoint is of step {first_step}; state more"
    ranks.on_all(lambda: require(first_step <= num_steps, "train.steps", config.train.steps, rule))
    # Workers start here, and what cannot be sent to them one rank alone may find.
    windows = ranks.on_all(lambda: parts.train.windows(plan, ranks.rank, first_step, closing))
    scored = {"validation": validation_samples(parts, plan), "test": parts.test}
    size = config.batch.eval_size
    sets = ranks.on_all(
        lambda: {
            split: ScoredSet(
                split=split,
                samples=samples,
                chunks=chunks_of(samples, size, ranks.rank, ranks.world_size, closing),
            )
            for split, samples in scored.items()
            if samples is not None
        }
    )
    is_read_ahead = any(each.is_read_ahead for each in (parts.train, *scored.values()) if each is not None)
    warnings += worker_warnings(config.data, is_read_ahead, *fullest_node(ranks))
    rule = "needs a validation set: state --data.validation, such as 0.1"
    has_validation = "validation" in sets
    patience = config.train.patience
    ranks.on_all(lambda: require(has_validation or not patience, "train.patience", patience, rule))
    timer = StepTimer(ranks.device)
    run = Run(
        step=first_step,
        skips=SkippedSteps(checkpoint.state["skipped_steps"] if checkpoint else 0),
        clock=Stopwatch(first_step, earlier_seconds, ranks.device),
        timer=timer,
        folder=run_path(config),
        seed=config.seed,
        num_steps=num_steps,
        intervals=config.train,
        ranks=ranks,
        plan=plan,
        model=model,
        trained=[parameter for parameter in model.parameters() if parameter.requires_grad],
        optimizer=optimizer,
        task=parts.task,
        owners=owners,
        reduction=Reduction(prepared, traits, ranks.world_size, config.reduction, nodes=ranks.nodes)
        if owners is None
        else ShardedReduction(prepared, traits, ranks, owners, optimizer, timer),
        watch_every=config.tracking.watch,
        traits=traits,
        warnings=[*parts.warnings, *unused, *differences, *warnings],
        max_grad_norm=config.optimizer.max_grad_norm,
        lr_factor=partial(lr_factor, num_steps=num_steps, config=config.schedule),
        windows=windows,
        train_samples=parts.train,
        validation=sets.get("validation"),
        test=sets.get("test"),
        average=average,
        selection=selection_at(checkpoint) if has_validation else None,
    )
    connect_gpus(ranks)  # now that the processes that read data were forked
    run.captured = captured_step(config, run)
    if ranks.lifeline is not None:
        ranks.lifeline.position = run.position
    return run


def prepare_forward(model: nn.Module, ranks: Ranks, closing: ExitStack) -> nn.Module:
    """The model under autocast, until `closing` closes. Accelerate adds no DistributedDataParallel."""
    own = {name: vars(model)[name] for name in SET_BY_ACCELERATE if name in vars(model)}
    # Accelerate leaves a model as it is that has this mark, of an earlier run or of the program's own.
    vars(model).pop("_is_accelerate_prepared", None)
    # The model is on the device already. To place it, Accelerate would import distributed tensors and with
    # them sympy, which takes half a second.
    prepared = ranks.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    closing.callback(restore_forward, model, own)
    return prepared


def restore_forward(model: nn.Module, own: Mapping[str, Any]) -> None:
    """Takes back what Accelerate set on a model, its forward under autocast: a program may use it again.

    Args:
        model: prepared by Accelerate.
        own: what the instance had before of `SET_BY_ACCELERATE`.
    """
    for name in SET_BY_ACCELERATE:
        vars(model).pop(name, None)
    vars(model).update(own)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], *, keeps_rates: bool) -> None:
    """Gives an optimizer the state of a checkpoint. In torch's form, that also holds each group's settings.

    Args:
        optimizer: made from the settings of this run.
        state: of an optimizer with the same groups.
        keeps_rates: whether the run continues from another under settings of its own.
    """
    own = [{name: group[name] for name in RATES if name in group} for group in optimizer.param_groups]
    groups = [dict(group) for group in state["param_groups"]]
    for saved, group in zip(groups, optimizer.param_groups, strict=False):
        if "fused" in group:  # how an update is launched is the process's own; in fp16 it once was not fused
            saved["fused"] = group["fused"]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group, rates in zip(optimizer.param_groups, own if keeps_rates else (), strict=False):
        group.update(rates)


def validation_samples(parts: Parts, plan: Plan) -> Samples | None:
    """What the best checkpoint is chosen by: the task's own validation data, or what the plan holds out."""
    if plan.num_held_out:
        return HeldOutSamples(whole=parts.train.unchanged(), ids=torch.from_numpy(plan.held_out_ids()))
    return parts.validation


def selection_at(checkpoint: Checkpoint | None) -> Selection:
    """The state of the choice of the best checkpoint, at the start of a run or at a checkpoint."""
    return Selection(**checkpoint.state["selection"]) if checkpoint else Selection()


def make_plan(config: Config, ranks: Ranks, num_samples: int, num_held_out: int) -> Plan:
    """The plan of a run over its training samples, of which some may be held out.

    Raises:
        ConfigError: the slots of a global batch do not divide evenly over the ranks.
    """
    return Plan(
        seed=config.seed,
        num_samples=num_samples - num_held_out,
        num_held_out=num_held_out,
        batch=config.batch,
        world_size=ranks.world_size,
        exact=config.reduction == "exact",
        drop_last=config.data.drop_last,
    )
