"""Opens and closes the sinks of a run: metrics file, console, evaluations, TensorBoard and W&B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.config import Config, as_dict
from lockstep.engine import Run, is_best
from lockstep.launch import limited, unlimited
from lockstep.report import Console, say
from lockstep.runs import MetricsFile, Sink, Status, saved_identity
from lockstep.runs.saved_evaluations import EvaluationSink
from lockstep.tracking.tensorboard_sink import TensorBoardSink, check_tensorboard
from lockstep.tracking.upload.wandb_run import WandbRun
from lockstep.trainer.finish.final_scores import newest_evaluations


def open_sinks(config: Config, run: Run, mode: str, facts: dict[str, Any]) -> None:
    """Opens the main rank's sinks. Adds each to the run as it opens, so that a later failure still closes it.

    Args:
        config: the settings of the run.
        run: the run that gets the sinks.
        mode: W&B mode: online, offline or disabled.
        facts: the environment of this start.

    Raises:
        ConfigError: the package of one of them is missing.
    """
    if config.tracking.tensorboard:
        check_tensorboard()
    run.sinks.append(MetricsFile(run.folder, resume_step=run.step))
    run.sinks.append(Console(run.step, run.num_steps, run.task.headline))
    if run.scored is not None:
        run.sinks.append(
            EvaluationSink(
                run.folder,
                run.step,
                run.scored.samples,
                lambda: newest_evaluations(run),
                lambda: is_best(run),
            )
        )
    if config.tracking.tensorboard:
        run.sinks.append(tensorboard_sink(config, run))
    if mode != "disabled":
        tree = {**as_dict(config), "environment": facts}
        wandb_run = WandbRun(
            run.folder,
            config.tracking,
            mode,
            tree,
            notify=say,
            tensors=lambda: weights_and_gradients(run.model),
        )
        run.sinks.append(wandb_run)


def tensorboard_sink(config: Config, run: Run) -> TensorBoardSink:
    """The sink that writes TensorBoard's files."""

    def pictures() -> dict[str, np.ndarray]:
        from lockstep.report.run_report import pixels_of_pictures  # imports matplotlib, which is slow

        return pixels_of_pictures(run.folder)

    settings = saved_identity(as_dict(config))
    metrics = ["loss", f"test_{run.task.headline}"]
    return TensorBoardSink(run.folder, settings, metrics, pictures, notify=say)


def close_sinks(sinks: Sequence[Sink], status: Status, reason: str) -> None:
    """Closes each of the sinks. One that fails is only a warning: how the run ended is already decided."""
    for sink in sinks:
        try:
            # W&B's has limits of its own, which may be longer.
            with unlimited() if isinstance(sink, WandbRun) else limited(f"closing {type(sink).__name__}"):
                sink.close(status, reason)
        except Exception as error:
            say(f"warning: {type(sink).__name__} was not closed ({type(error).__name__}: {error})")


def weights_and_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """What `tracking.watch` logs. After a step, the gradients are those of the global batch, clipped."""
    named = list(model.named_parameters())
    gradients = {f"gradients/{name}": p.grad for name, p in named if p.grad is not None}
    return {f"weights/{name}": p for name, p in named} | gradients
