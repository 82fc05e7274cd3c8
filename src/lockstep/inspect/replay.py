"""Recomputes a run up to one of its steps, compares it with what was recorded, and opens that step up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.config import Config
from lockstep.engine import Run, agreed_digest, step_record, take_step
from lockstep.errors import ConfigError
from lockstep.launch import Launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks import Ranks
from lockstep.report.contact_sheet import draw_contact_sheet
from lockstep.runs import Record, check_same_run, read_metrics, read_settings, step_name, write_atomically
from lockstep.runs.checkpoint_folder import broadcast_newest_checkpoint
from lockstep.runs.environment import environment
from lockstep.runs.folder import environment_at
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
            compared, departure = compare_records(recompute(run), recorded.get(run.step, {}))
            num_compared += compared
            departures += [departure] if departure else []
        if stop_there and ranks.is_main:
            breakpoint()  # `run` holds it all; take_step(run) computes the step
        opened = open_up(run)
        compared, departure = compare_records(opened.pop("record"), recorded.get(step, {}))
        departures += [departure] if departure else []
        target = folder / "replay" / step_name(step)
        ranks.on_main(lambda: write(target, run, opened))
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
            non_finite=opened["first_not_finite"],
        )


def recompute(run: Run) -> Record:
    """Takes one step and gives its record, with the digest of the weights after it."""
    result = take_step(run)
    digest = agreed_digest(run.model, run.ranks, run.step)
    return step_record(run, result) | {"weights_digest": digest, "step": run.step}


def compare_records(computed: Record, recorded: Record) -> tuple[int, str]:
    """How many numbers of a step were compared, and the first that is not equal, to the last bit."""
    names = [name for name in COMPARED if name in recorded]
    for name in names:
        one, other = recorded[name], computed[name]
        if one != other and not (one != one and other != other):  # NaN is not equal to itself
            return len(names), f"step {computed['step']}: {name} {recorded[name]} → {computed[name]}"
    return len(names), ""


def open_up(run: Run) -> dict[str, Any]:
    """Takes the next step and tells all about it: samples, losses, gradients. All ranks must call it."""
    slots = run.plan.step_ids(run.step)
    norms: dict[str, float] = {}

    def keep_norms(*_: object) -> None:
        for name, parameter in run.model.named_parameters():
            if parameter.grad is not None:
                norms[name] = parameter.grad.norm().item()

    losses: list[Tensor] = []
    logits_seen: list[Tensor] = []
    criterion = run.criterion

    def observed(logits: Tensor, labels: Tensor) -> Tensor:
        values = criterion(logits, labels)
        losses.append(values.detach())
        logits_seen.append(logits.detach())
        return values

    hook = run.optimizer.optimizer.register_step_pre_hook(keep_norms)
    run.criterion = observed
    try:
        with first_not_finite(run.model) as found:
            record = recompute(run)
    finally:
        run.criterion = criterion
        hook.remove()
    predictions = torch.stack(logits_seen).argmax(dim=2)
    scores = torch.stack([torch.stack(losses).float(), predictions.float()], dim=2)
    everyone = run.ranks.gather(scores).reshape(-1, 2)  # (global_size, 2), slots in their order
    is_real = torch.from_numpy(slots.ravel() >= 0)
    where = [line for line in run.ranks.gather_objects(found[:1]) if line]
    return {
        "record": record,
        "step": run.step,
        "ids": slots.ravel()[is_real.numpy()].tolist(),
        "losses": everyone[is_real, 0].tolist(),
        "predictions": everyone[is_real, 1].long().tolist(),
        "numbers": {name: value for name, value in record.items() if name != "step"},
        "gradient_norms": norms,
        "first_not_finite": where[0][0] if where else "",
    }


@contextmanager
def first_not_finite(model: nn.Module) -> Iterator[list[str]]:
    """Fills with the places, in the order of computation, whose output or gradient is not finite."""
    found: list[str] = []
    hooks = []

    def forward_hook(name: str) -> Any:
        def look(module: nn.Module, inputs: object, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if not tensor.isfinite().all():
                found.append(f"the output of {name} ({type(module).__name__})")

        return look

    def gradient_hook(name: str) -> Any:
        def look(gradient: Tensor) -> None:
            if not gradient.isfinite().all():
                found.append(f"the gradient of {name}")

        return look

    for name, module in model.named_modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(forward_hook(name or "the model")))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hooks.append(parameter.register_hook(gradient_hook(name)))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def write(folder: Path, run: Run, opened: dict[str, Any]) -> None:
    """step.json and contact-sheet.png: what a person debugging wants to see."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, digits = run.train_images.read(torch.tensor(opened["ids"]))
    labels = digits.tolist()
    write_atomically(folder / "step.json", json.dumps({**opened, "labels": labels}, indent=1) + "\n")
    notes = [f"#{sample}" for sample in opened["ids"]]
    title = f"{run.folder.name}, step {run.step:,}: label → prediction"
    sheet = draw_contact_sheet(pixels.to("cpu").numpy(), labels, opened["predictions"], notes, title)
    sheet.save(folder / "contact-sheet.png")
