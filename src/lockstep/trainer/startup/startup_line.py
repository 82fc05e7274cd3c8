"""The line that a run prints when it starts."""

from __future__ import annotations

from lockstep.config import Config
from lockstep.engine import Run
from lockstep.errors import counted
from lockstep.launch import as_in_default_config
from lockstep.plan import Plan
from lockstep.runs.history.environment import device_name


def startup_line(config: Config, run: Run, mode: str) -> str:
    """Says what really runs: devices, batch sizes, data, steps, W&B mode and run folder."""
    plan, ranks = run.plan, run.ranks
    threads = f" (threads: {ranks.num_threads})" if ranks.device.type == "cpu" else ""
    # One process and no mixed precision are what anybody expects.
    processes = as_in_default_config("num_processes", ranks.world_size) if ranks.world_size > 1 else ""
    precision = as_in_default_config("mixed_precision", config.precision) if config.precision != "no" else ""
    num_test = len(run.test.samples) if run.test is not None else 0
    validation = f" (validation: {len(run.validation.samples)})" if run.validation is not None else ""
    storage = "" if config.task.name else f" {config.data.in_use}"
    data = f"{run.task.name} {plan.num_samples}+{num_test}{validation}{storage}"
    engine = " | captured steps" if run.captured is not None else ""
    return (
        f"{ranks.world_size} x {device_name(ranks)}{threads}{processes}{engine} | "
        f"precision {config.precision}{precision} | "
        f"{batch_sizes(plan)} | {config.reduction} reduction | {data} | {counted(run.num_steps, 'step')} | "
        f"W&B {mode} | {run.folder}"
    )


def batch_sizes(plan: Plan) -> str:
    """How the global batch divides, for instance 'global batch 256 = 1 rank x 8 micro-batches x 32'."""
    ranks, window = counted(plan.world_size, "rank"), counted(plan.window, "micro-batch")
    return f"global batch {plan.batch.global_size} = {ranks} x {window} x {plan.batch.micro_samples}"
