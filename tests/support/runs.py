"""Small runs inside the test's own process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from lockstep.config import BatchConfig, Config, DataConfig, ModelConfig, RunConfig, TrainConfig
from lockstep.data import Dataset, load_dataset
from lockstep.engine import Run
from lockstep.launch import read_launch
from lockstep.launch.liveness.lifeline import Lifeline
from lockstep.launch.process_group import start_ranks
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.checkpoints.checkpoint import Checkpoint
from lockstep.task import Task
from lockstep.trainer import build_run, find_task, make_parts, with_task

LIFELINES: list[Lifeline] = []
"""That of the latest fresh ranks, if they are one."""


def small_config(folder: Path | str = "unused", **changes: object) -> Config:
    """600 synthetic samples, global batch 64: per epoch, nine full steps and a short one of 24."""
    config = Config(
        precision="no",
        run=RunConfig(name="run", dir=str(folder)),
        data=DataConfig(name="synthetic", num_train=600),
        batch=BatchConfig(global_size=64, micro_size=16),
        train=TrainConfig(epochs=1, log_every=1),
        model=ModelConfig(name="mlp"),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def fresh_ranks(precision: str = "no") -> Ranks:
    """Ranks with a fresh Accelerator, without the state of an earlier test, whose thread ends."""
    reset_accelerator()
    for lifeline in LIFELINES:
        lifeline.close()
    ranks = start_ranks(read_launch(), precision)
    LIFELINES[:] = [ranks.lifeline] if ranks.lifeline and ranks.world_size == 1 else []
    return ranks


def reset_accelerator() -> None:
    """Makes Accelerate forget the state of an earlier test, its precision included."""
    for state in (AcceleratorState, GradientState):
        state._reset_state()
    if not dist.is_initialized():  # a process joins its group only once
        PartialState._reset_state()


def small_run(config: Config, ranks: Ranks | None = None) -> tuple[Run, Dataset]:
    """A run at step 0, without a run folder, and its data."""
    return built_run(config, ranks), load_dataset(config.data, config.seed)


def built_run(
    config: Config,
    ranks: Ranks | None = None,
    checkpoint: Checkpoint | None = None,
    task: Task | None = None,
) -> Run:
    """A run at step 0 or at a checkpoint, without a run folder."""
    ranks = ranks or fresh_ranks(config.precision)
    config, task = find_task(with_task(config, task), task)
    return build_run(config, ranks, make_parts(config, task, ranks), checkpoint)


def scale_losses(run: Run, scaler: torch.amp.GradScaler) -> None:
    """Lets a run take the steps of fp16, on a CPU too, where Accelerate offers its scaler but not fp16."""
    accelerator = run.ranks.accelerator
    # In place: a sharded reduction knows it.
    AcceleratedOptimizer.__init__(run.optimizer, run.optimizer.optimizer, False, scaler)
    accelerator.scaler, accelerator.native_amp, accelerator._optimizers = scaler, True, [run.optimizer]
    accelerator.state._mixed_precision = "fp16"


def overflow_in(run: Run, steps: Collection[int]) -> None:
    """Lets the gradient of an mlp overflow in some steps, counted from 1."""
    parameter = run.model.linear3.bias
    parameter.register_hook(lambda gradient: gradient * torch.inf if run.step + 1 in steps else gradient)


def record_gradients(run: Run) -> list[dict[str, torch.Tensor]]:
    """Returns a list that collects the gradients that the optimizer gets, one dict per step."""
    steps: list[dict[str, torch.Tensor]] = []

    def keep(*_: object) -> None:
        named = run.model.named_parameters()
        steps.append({name: p.grad.detach().clone() for name, p in named if p.grad is not None})

    run.optimizer.optimizer.register_step_pre_hook(keep)
    return steps


def reference_gradients(model: nn.Module, run: Run, dataset: Dataset, step: int) -> dict[str, torch.Tensor]:
    """The gradient of the mean loss over a step's global batch, by one plain backward."""
    ids = run.plan.step_ids(step).ravel()
    ids = torch.from_numpy(ids[ids >= 0])
    images = ((dataset.train.images[ids].float() / 255 - 0.1307) / 0.3081).unsqueeze(1)
    model.zero_grad()
    run.task.loss(model(images), dataset.train.labels[ids]).mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
