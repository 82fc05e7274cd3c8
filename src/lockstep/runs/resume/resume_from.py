"""`--resume-from RUN`: a new run from another's checkpoint, with another length or rates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lockstep.config import Config, is_file, take_option
from lockstep.errors import refuse, require
from lockstep.runs.checkpoints.checkpoint import (
    MANIFEST_FILE,
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    save_checkpoint,
)
from lockstep.runs.checkpoints.checkpoint_folder import best_checkpoint
from lockstep.runs.checkpoints.weights import BEST, LAST, read_weights, split_name
from lockstep.runs.folder.files import (
    CHECKPOINTS_FOLDER,
    DATASET_FILE,
    METRICS_FILE,
    SETTINGS_FILE,
    TASK_FILE,
    checkpoints_in,
    which_run,
    write_atomically,
)
from lockstep.runs.history.history import read_metrics, read_settings, read_starts
from lockstep.runs.resume.naming import run_path
from lockstep.runs.resume.resume_rules import GOING_ON, check_format, differences
from lockstep.runs.run_settings import TO_TRAIN, stated_settings

OPTION = "--resume-from"


def resumed_config(word: str, flags: list[str]) -> Config:
    """The settings of a run that another continues from, with the user's flags; its name is not taken.

    Args:
        word: RUN, RUN:best, or one checkpoint of a run.
        flags: of `lockstep train`.

    Raises:
        ConfigError: it is not a run, the flags have a --config, or they name the folder of that run.
    """
    file, _ = take_option(flags, "--config")
    rule = f"the run of {OPTION} has its own settings; leave one of them out"
    require(not file, "--config", file, rule)
    source = _source(word)
    if not is_file(source / SETTINGS_FILE):
        rule = "must be a run folder, RUN:best, a checkpoint, or wandb:[ENTITY/]PROJECT/NAME:ALIAS"
        raise refuse(OPTION, word, f"{rule}; {which_run(source)}")
    flags = [*flags, f"--train.resume-from={word}"]
    config = stated_settings(source, flags, str(source), imports=TO_TRAIN, uses=("data.root",))
    is_other = run_path(config).resolve() != source.resolve()
    rule = f"is the run that {OPTION} names, and keeps its settings; choose another run.name"
    require(is_other, "run.name", config.run.name, rule)
    return config


def install_from_run(config: Config, folder: Path) -> None:
    """Puts the checkpoint that a new run goes on from into its folder, unless the run has begun there.

    With it come the records up to its step, the best checkpoint so far, and what describes task and data. The
    run's own first start begins after that step. The main rank calls it.

    Raises:
        ConfigError: there is no such checkpoint, or it is of a run whose data, model or batch differ.
    """
    word = config.train.resume_from
    # Without a start, the process that brought them was killed, perhaps before the one to go on from.
    if checkpoints_in(folder / CHECKPOINTS_FOLDER) and read_starts(folder):
        return
    weights = read_weights(word, OPTION)
    rule = "names no checkpoint of a run with all its state; name RUN, RUN:best or a checkpoint"
    is_whole = weights.checkpoint is not None and weights.run is not None and weights.which in (LAST, BEST)
    require(is_whole, OPTION, word, rule)
    assert weights.checkpoint is not None
    assert weights.run is not None
    source, checkpoint = weights.run, weights.checkpoint
    check_format(source, f"run {str(source)!r}")
    for name, (now, before) in differences(config, read_settings(source)).items():
        if name not in GOING_ON:
            rule = f"{OPTION} {word} keeps {before!r}: only length, schedule, rates and reporting may change"
            raise refuse(name, now, f"{rule}; to take its weights alone: --init-from {word}")
    kept = [record for record in read_metrics(source) if record["step"] <= checkpoint.step]
    write_atomically(folder / METRICS_FILE, "".join(json.dumps(record) + "\n" for record in kept))
    for name in (TASK_FILE, DATASET_FILE):
        if is_file(source / name):
            shutil.copyfile(source / name, folder / name)
    best = _best_before(source, checkpoint.step)
    if best is not None:
        save_checkpoint(folder / CHECKPOINTS_FOLDER, best)
    save_checkpoint(folder / CHECKPOINTS_FOLDER, checkpoint)


def _best_before(source: Path, step: int) -> Checkpoint | None:
    """The best checkpoint of a run, if it is of an earlier step and whole."""
    path = best_checkpoint(source / CHECKPOINTS_FOLDER)
    try:
        best = None if path is None else load_checkpoint(path)
    except DamagedCheckpoint:
        return None
    return best if best is not None and best.step < step else None


def _source(word: str) -> Path:
    """The run folder that a word names, or that its checkpoint lies in."""
    path, _ = split_name(word, OPTION)
    is_checkpoint = is_file(path / MANIFEST_FILE)
    return path.resolve().parent.parent if is_checkpoint else path
