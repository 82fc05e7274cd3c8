"""Recomputes a run up to one of its steps, compares it with what was recorded, and opens that step up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lockstep.config import Config
from lockstep.errors import ConfigError
from lockstep.inspect.step_details import recorded_step, take_detailed_step, write_step
from lockstep.launch import Launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks import Ranks
from lockstep.runs import (
    Record,
    check_same_run,
    environment_at,
    read_metrics,
    read_settings,
    step_name,
)
from lockstep.runs.checkpoint_folder import broadcast_newest_checkpoint
from lockstep.runs.environment import environment
from lockstep.trainer import build_run, shared_dataset

COMPARED = ("loss", "accuracy", "grad_norm", "weights_digest")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of a replay; the same on every rank."""

    step: int
    """The step that was opened up."""
    first_step: int
    """The step of the checkpoint that it started from; 0: the initial weights."""
    num_compared: int
    """Recorded numbers that were compared."""
    departure: str
    """Where the recomputed run first departs from the recorded one; empty: nowhere."""
    differences: str
    """What this machine does differently from the one that recorded it; empty: nothing known."""
    folder: Path
    """What was written about the step."""
    non_finite: str
    """Where the first number came from that is not finite; empty: all are finite."""

    def lines(self) -> list[str]:
        """What came of it, for a person."""
        origin = f"the checkpoint of step {self.first_step}" if self.first_step else "the initial weights"
        compared = f"{self.num_compared} recorded numbers compared"
        lines = [f"recomputed to step {self.step} from {origin}; {compared}"]
        if self.differences:
            lines.append(f"this is not what the run was made on: {self.differences}")
        if self.departure:
            lines.append(f"departs first at {self.departure} (recorded → recomputed)")
        elif self.num_compared:
            lines.append("identical")
        if self.non_finite:
            lines.append(f"not finite, first in {self.non_finite}")
        return [*lines, f"wrote {self.folder}/step.json and contact-sheet.png"]


def replay_step(folder: Path, config: Config, step: int, *, stop_there: bool, launch: Launch) -> Replay:
    """Recomputes a run folder's run up to a step, counted from 1, on whatever ranks this is.

    Args:
        folder: the run folder.
        config: the run's own.
        step: the step to open up.
        stop_there: whether to enter the debugger before that step, on the main rank.
        launch: what the launcher asked for.

    Raises:
        ConfigError: the run has no such step, or the config is that of another run.
    """
    remedy = "leave it as it was, so that the run is the same"
    check_same_run(config, read_settings(folder), f"run {str(folder)!r}", remedy)
    before = environment_at(folder, step)
    with join_ranks(launch, resolve_precision(config, launch).precision) as ranks:
        return _replay_on(ranks, folder, config, step, stop_there, before)


def _replay_on(
    ranks: Ranks, folder: Path, config: Config, step: int, stop_there: bool, before: Mapping[str, Any]
) -> Replay:
    """The run ends with this function: it holds process groups, whose threads must end before the process."""
    if ranks.device.type == "cpu" and before.get("device") == "cpu":
        torch.set_num_threads(before["num_threads"])  # the bits of a sum depend on who adds what
    now = environment(ranks) | {"num_threads": torch.get_num_threads()}
    start = broadcast_newest_checkpoint(folder, ranks, before=step)
    dataset = shared_dataset(config, ranks)
    run = build_run(config, ranks, dataset, start)
    with run.closing:
        if not 1 <= step <= run.num_steps:
            raise ConfigError(f"--step = {step}: this run has steps 1 to {run.num_steps}")
        recorded = {record["step"]: record for record in read_metrics(folder)}
        departures, num_compared = [], 0
        run.model.train()
        while run.step < step - 1:
            compared, departure = compare_records(recorded_step(run), recorded.get(run.step, {}))
            num_compared += compared
            departures += [departure] if departure else []
        if stop_there and ranks.is_main:
            breakpoint()  # `run` holds it all; take_step(run) computes the step
        details, record = take_detailed_step(run)
        compared, departure = compare_records(record, recorded.get(step, {}))
        departures += [departure] if departure else []
        target = folder / "replay" / step_name(step)
        ranks.on_main(lambda: write_step(target, run, details))
        return Replay(
            step=step,
            first_step=start.step if start else 0,
            num_compared=num_compared + compared,
            departure=departures[0] if departures else "",
            differences=", ".join(
                f"{name} {before[name]} → {now[name]}"
                for name in sorted((before.keys() & now.keys()) - {"git"})
                if before[name] != now[name]
            ),
            folder=target,
            non_finite=details["first_not_finite"],
        )


def compare_records(computed: Record, recorded: Record) -> tuple[int, str]:
    """How many numbers of a step were compared, and the first that is not equal, to the last bit."""
    names = [name for name in COMPARED if name in recorded]
    for name in names:
        one, other = recorded[name], computed[name]
        if one != other and not (one != one and other != other):  # NaN is not equal to itself
            return len(names), f"step {computed['step']}: {name} {recorded[name]} → {computed[name]}"
    return len(names), ""
