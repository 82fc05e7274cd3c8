"""Recomputes a run up to a given step, compares it with the recorded run, and writes that step's details."""

from __future__ import annotations

from bdb import BdbQuit
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lockstep.config import Config, source_digests
from lockstep.data import restored_generators
from lockstep.engine import Run, take_step  # noqa: F401  take_step: for the prompt of --break, which sees it
from lockstep.errors import counted, refuse, require
from lockstep.inspect.replay_details import (
    check_can_write_step,
    recorded_step,
    take_detailed_step,
    write_step,
)
from lockstep.launch import Launch, read_launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process.process_state import restored_process_state
from lockstep.launch.process_group import join_ranks, launch_of_group
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs import (
    TO_TRAIN,
    Record,
    changed_sources,
    check_format,
    check_same_run,
    environment_at,
    environment_changes,
    read_metrics,
    read_settings,
    read_starts,
)
from lockstep.runs.checkpoints.checkpoint_folder import broadcast_newest_checkpoint
from lockstep.runs.history.environment import environment
from lockstep.task import Task
from lockstep.trainer import (
    build_run,
    check_same_data,
    find_task,
    first_on_each_node,
    make_parts,
    settings_of_run,
)

COMPARED = ("loss", "grad_norm", "weights_digest")
"""What every task has of each step, besides its metrics."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The result of a replay; the same on every rank."""

    step: int
    """The step whose details were written."""
    first_step: int
    """The step of the checkpoint that the replay started from; 0: the initial weights."""
    num_compared: int
    """How many recorded numbers were compared."""
    divergence: str
    """Where the recomputed run first diverges from the recorded one; empty: nowhere."""
    environment_changes: str
    """How this environment differs from the recorded run's; empty: no known difference."""
    written: list[Path]
    """The files with the step's details."""
    non_finite: str
    """The first output or gradient that is not finite; empty: all are finite."""

    def lines(self) -> list[str]:
        """The result as lines of text."""
        origin = f"the checkpoint of step {self.first_step}" if self.first_step else "the initial weights"
        compared = "no step up to it was logged, so there is nothing to compare with"
        if self.num_compared:
            compared = f"{counted(self.num_compared, 'recorded number')} compared"
        lines = [f"recomputed to step {self.step} from {origin}; {compared}"]
        if self.environment_changes:
            lines.append(f"this environment differs from the recorded run's: {self.environment_changes}")
        if self.divergence:
            lines.append(f"first diverges at {self.divergence} (recorded → recomputed)")
        elif self.num_compared:
            lines.append("identical")
        if self.non_finite:
            lines.append(f"first value that is not finite: {self.non_finite}")
        return [*lines, f"wrote {' and '.join(map(str, self.written))}"]


def replay(
    task: Task | str | None,
    folder: Path | str,
    step: int,
    output: Path | str | None = None,
    *,
    data_root: Path | str = "",
) -> Replay:
    """Recomputes a run up to a step and compares it with the record, as `lockstep replay` does.

    Under a launcher, call it in every process; any number of them gives the same bits.

    Args:
        task: of the run; None: the one that its settings name.
        folder: the run folder.
        step: the step whose details are written, counted from 1.
        output: where they are written; by default replay/step-N in the run folder.
        data_root: where the data of the built-in task is; by default in 'data', whatever the run says.

    Raises:
        ConfigError: it is not a folder of a run of this task, the run has no such step, or the details cannot
            be written.
    """
    config = settings_of_run(Path(folder), task, data_root=data_root, imports=TO_TRAIN)
    given = task if isinstance(task, Task) else None
    with restored_process_state(), restored_generators(torch.device("cpu")):
        launch = launch_of_group(read_launch())
        target = None if output is None else Path(output)
        return replay_step(
            Path(folder), config, step, output=target, enter_debugger=False, launch=launch, task=given
        )


def replay_step(
    folder: Path,
    config: Config,
    step: int,
    *,
    output: Path | None,
    enter_debugger: bool,
    launch: Launch,
    task: Task | None = None,
) -> Replay:
    """Recomputes the run in a folder up to a step, counted from 1, on the ranks of this launch.

    Args:
        folder: the run folder.
        config: the run's own settings.
        step: the step whose details are written.
        output: where they are written; None: replay/step-N in the run folder.
        enter_debugger: whether the main rank enters the debugger just before that step.
        launch: what the launcher started.
        task: of the run; None: as the config says.

    Raises:
        ConfigError: the run has no such step, the settings define another run, or the details cannot be
            written.
    """
    remedy = "leave it unchanged, so that the replay is of the same run"
    check_same_run(config, read_settings(folder), f"run {str(folder)!r}", remedy)
    check_format(folder, f"run {str(folder)!r}")
    starts = read_starts(folder)
    origin = starts[0]["step"] if starts else 0
    rule = f"belongs to the run that this one continues from ({config.train.resume_from!r}); replay it there"
    require(not 0 < step <= origin, "--step", step, rule)
    before = environment_at(folder, step)
    precision, limit = resolve_precision(config, launch).precision, config.run.timeout_seconds
    with join_ranks(launch, precision, limit, debugs=enter_debugger) as ranks:
        return _replay_on(ranks, folder, config, task, step, output, enter_debugger, before)


def _replay_on(
    ranks: Ranks,
    folder: Path,
    config: Config,
    task: Task | None,
    step: int,
    output: Path | None,
    enter_debugger: bool,
    before: Mapping[str, Any],
) -> Replay:
    """Keeps the run to this function: its process groups have threads, which must end before the process."""
    ranks.on_main(lambda: check_can_write_step(folder, output))
    if ranks.device.type == "cpu" and before.get("device") == "cpu" and "num_threads" in before:
        torch.set_num_threads(before["num_threads"])  # the bits of a sum depend on how threads share it
    now = environment(ranks) | {"num_threads": torch.get_num_threads()}
    changed = changed_sources(folder, step, source_digests(config))
    changes = [*environment_changes(before, now), *(f"source of {each}" for each in changed)]
    checkpoint = broadcast_newest_checkpoint(folder, ranks, before=step)
    config, task = first_on_each_node(ranks, "the task", lambda: find_task(config, task, folder))
    parts = make_parts(config, task, ranks)
    ranks.on_main(lambda: check_same_data(parts, folder))
    run = build_run(config, ranks, parts, checkpoint)
    with run.closing:
        if not 1 <= step <= run.num_steps:
            raise refuse("--step", step, f"must be from 1 to {run.num_steps}, the last step of this run")
        recorded = {record["step"]: record for record in read_metrics(folder)}
        divergences, num_compared = [], 0
        measured = [*run.traits.loss.parts, *run.task.metrics]
        run.model.train()
        while run.step < step - 1:
            compared, divergence = compare_records(recorded_step(run), recorded.get(run.step, {}), measured)
            num_compared += compared
            divergences += [divergence] if divergence else []
        if enter_debugger:
            ranks.on_main(lambda: open_prompt(run, step))
        details, record = take_detailed_step(run)
        compared, divergence = compare_records(record, recorded.get(step, {}), measured)
        divergences += [divergence] if divergence else []
        written = ranks.on_main(lambda: write_step(folder, output, run, details))
        return Replay(
            step=step,
            first_step=checkpoint.step if checkpoint else 0,
            num_compared=num_compared + compared,
            divergence=divergences[0] if divergences else "",
            environment_changes=", ".join(changes),
            written=written,
            non_finite=details["first_not_finite"],
        )


def open_prompt(run: Run, step: int) -> None:
    """Opens the debugger just before a step: `run` holds everything, and take_step(run) computes the step.

    Raises:
        ConfigError: the debugger was quit with q or at the end of its input, or the step was computed in it.
    """
    rule = "was computed at the prompt, so its details were not written; start again"
    try:
        breakpoint()
        require(run.step < step, "--break", step, rule)  # within `try`: the debugger stops at this line
    except (BdbQuit, SystemExit) as end:
        rule = "the debugger was quit, so the step was not computed; type c to compute it"
        raise refuse("--break", step, rule) from end


def compare_records(computed: Record, recorded: Record, metrics: Iterable[str]) -> tuple[int, str]:
    """Compares a step's numbers bit for bit: how many were compared, and the first that differs, if any."""
    names = [name for name in (*COMPARED, *metrics) if name in recorded]
    for name in names:
        before, now = recorded[name], computed[name]
        if before != now:
            return len(names), f"step {computed['step']}: {name} {before} → {now}"
    return len(names), ""
