"""Decides whether a start may resume an old run: which settings may change, and which must not. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lockstep.config import PROGRAM, Config, leaves, module_digests, plain_values, users_modules
from lockstep.errors import ConfigError, refuse
from lockstep.runs.folder.files import RUN_FORMAT
from lockstep.runs.history.history import read_settings, read_starts, read_summary
from lockstep.runs.history.starts import changed_sources

MAY_CHANGE = (
    "engine",
    "run.name",
    "run.dir",
    "run.timeout_seconds",
    "task.source",
    "optimizer.sharded",
    "batch.eval_size",
    "data.root",
    "data.storage",
    "data.num_workers",
    "data.worker_context",
    "data.fetch_timeout_seconds",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.digest_every",
    "train.keep_checkpoints",
    "train.check_order",
    "train.profile",
    "train.report",
    "tracking.mode",
    "tracking.project",
    "tracking.entity",
    "tracking.group",
    "tracking.job_type",
    "tracking.watch",
    "tracking.tensorboard",
)
"""Settings that may differ between two starts of one run: they say where things are, what is reported and how
a device is asked, not what is computed. `metrics.jsonl` and the checkpoints follow the newest start."""

GOING_ON = (
    "train.epochs",
    "train.steps",
    "train.patience",
    "train.eval_every",
    "train.resume_from",
    "schedule.name",
    "schedule.warmup",
    "optimizer.lr",
    "optimizer.betas",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.max_grad_norm",
)
"""Settings that may differ in a run that goes on from another (`train.resume_from`): its length, schedule and
rates. They are part of no state."""


def identity(config: Config) -> dict[str, Any]:
    """The settings that define a run, by dotted name: two starts of one run must agree in all of them."""
    # Patience counts evaluations, so they decide when the run ends.
    fixed = ("train.eval_every",) if config.train.patience else ()
    return {
        name: in_order(name, value)
        for name, value in leaves(config).items()
        if name not in MAY_CHANGE or name in fixed
    }


def in_order(name: str, value: Any) -> Any:
    """A setting as it is compared: of transforms the order counts, of other maps it does not."""
    return [list(entry) for entry in value.items()] if name == "data.transforms" else value


def differences(config: Config, saved: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where a config and a saved tree define different runs: dotted name → (value now, value saved)."""
    now = plain_values(identity(config))
    before = saved_values(saved, now)
    return {name: (now[name], before[name]) for name in now if now[name] != before[name]}


def saved_identity(saved: dict[str, Any]) -> dict[str, Any]:
    """`identity` of a tree read from YAML. A setting that the tree lacks is newer, and has its default."""
    return saved_values(saved, identity(Config()))


def saved_values(saved: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Settings of a tree read from YAML by dotted name, with defaults for those that it lacks."""
    defaults = plain_values(leaves(Config()))

    def value(name: str) -> Any:
        branch: Any = saved
        for key in name.split("."):
            if key not in branch:
                return in_order(name, defaults[name])
            branch = branch[key]
        return in_order(name, branch)

    return {name: value(name) for name in names}


def changed_settings(folder: Path) -> dict[str, Any]:
    """The settings that define a run and are not at their defaults, by dotted name."""
    defaults = saved_identity({"precision": "no"})  # what 'auto' becomes, unless a launcher says another
    settings = saved_identity(read_settings(folder))
    return {name: value for name, value in settings.items() if value != defaults[name]}


def check_may_resume(config: Config, folder: Path) -> dict[str, Any] | None:
    """Checks that a run folder holds this run, or none; returns its summary if the run is finished.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    saved = read_settings(folder)
    if saved:
        is_going_on = differences(config, saved).keys() <= set(GOING_ON)
        means = f"to continue from it with this setting: --resume-from {folder}"
        if not is_going_on:
            means = f"to begin with its weights: --init-from {folder}"
        remedy = f"choose another run.name, or leave run.name out to have one derived; {means}"
        check_same_run(config, saved, f"run {str(folder)!r}", remedy)
    summary = read_summary(folder)
    if summary is None:
        check_format(folder, f"run {str(folder)!r}")
    return summary


def check_format(folder: Path, run: str) -> None:
    """Checks that every start of a run drew its random numbers as this version does.

    Raises:
        ConfigError: one did not, so continuing or replaying it would give other numbers; it names `run`.
    """
    for start in read_starts(folder):
        made_by = start.get("format", 1)
        if made_by != RUN_FORMAT:
            raise ConfigError(
                f"{run} was made by a version of Lockstep that draws random numbers differently (format "
                f"{made_by}, this version: {RUN_FORMAT}); continue it with that version, or choose another "
                "run.name"
            )


def check_same_sources(
    config: Config, folder: Path, step: int, sources: Mapping[str, str], *, accept: bool
) -> list[str]:
    """Checks that the user's modules are those with which a run was trained, before any of them is imported.

    Args:
        config: the settings of this start.
        folder: of the run.
        step: the newest one that the run is to keep.
        sources: the digests of the modules as they are now.
        accept: whether the run may continue with changed ones.

    Returns:
        The modules whose source has changed.

    Raises:
        ConfigError: there are some, and they are not accepted.
    """
    changed = changed_sources(folder, step, sources)
    if changed and not accept:
        modules = users_modules(config)
        own = {each: module_digests(module, changed) for each, module in modules.items()}
        field = next((each for each in own if set(changed) & own[each].keys()), next(iter(own)))
        names = " and ".join("the program" if each == PROGRAM else each for each in changed)
        rule = (
            f"run {str(folder)!r} was trained up to step {step} with a different source of {names}; "
            "put it back, choose a run.name for a new run, or accept it: --accept-source, in a program "
            "accept_source=True"
        )
        raise refuse(field, leaves(config)[field], rule)
    return changed


def check_same_run(config: Config, saved: dict[str, Any], run: str, remedy: str) -> None:
    """Checks that a config and the saved settings of a run define the same run.

    Raises:
        ConfigError: they do not; it names `run` and ends with `remedy`.
    """
    changes = differences(config, saved)
    if changes:
        name, (now, before) = next(iter(changes.items()))
        raise refuse(name, now, f"{run} was started with {before!r}; {remedy}")
