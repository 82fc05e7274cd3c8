"""The line a run prints when it starts: what really runs."""

from __future__ import annotations

from lockstep.config import Config
from lockstep.engine import Run
from lockstep.runs.environment import device_name


def startup_line(config: Config, run: Run, mode: str) -> str:
    """The start-up line: what really runs."""
    plan, ranks = run.plan, run.ranks
    threads = f" (threads: {ranks.num_threads})" if ranks.device.type == "cpu" else ""
    data = f"{config.data.name} {plan.num_samples}+{len(run.test_store)} {config.data.storage}"
    return (
        f"{ranks.world_size} x {device_name(ranks)}{threads} | precision {config.precision} | "
        f"global batch {plan.batch.global_size} = {ranks.world_size} ranks x {plan.window} micro-batches "
        f"x {plan.batch.micro_size} | {config.reduction} reduction | {data} | {run.num_steps} steps | "
        f"W&B {mode} | {run.folder}"
    )
