"""The weights that a word names: of a run ('runs/NAME:best'), of a checkpoint, or of a file.

A run has up to four: those after its newest step, those of the step with the best score on the validation
set, and with train.ema the moving average of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lockstep.config import is_file, nearest, read_file
from lockstep.errors import refuse
from lockstep.runs.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint, load_checkpoint
from lockstep.runs.checkpoints.checkpoint_folder import best_checkpoint, newest_checkpoint
from lockstep.runs.folder.files import CHECKPOINTS_FOLDER, SETTINGS_FILE, run_folder_of, which_run

LAST, BEST, EMA, BEST_EMA = "last", "best", "ema", "best-ema"
OF_A_RUN = (LAST, BEST, EMA, BEST_EMA)
"""What may stand after 'RUN:'. RUN alone is RUN:last."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of a model, and where they are from."""

    tensors: dict[str, Tensor]
    """A state dict: parameters and persistent buffers by name, on the CPU."""
    which: str
    """'last', 'best', 'ema' or 'best-ema'; of a file 'last'."""
    checkpoint: Checkpoint | None
    """The whole checkpoint; None for a file."""
    run: Path | None
    """The run folder; None for a file, or a checkpoint that lies in none."""


def read_weights(word: str, field: str = "RUN") -> Weights:
    """Reads the weights that a word names.

    Args:
        word: RUN, RUN:last, RUN:best, RUN:ema or RUN:best-ema, a run folder; CHECKPOINT or CHECKPOINT:ema,
            one checkpoint of a run; or FILE.safetensors, a state dict.
        field: what the word is, for messages, such as '--init-from'.

    Raises:
        ConfigError: there are no such weights, or they are damaged.
    """
    path, which = split_name(word, field)
    if path.suffix == ".safetensors" and is_file(path):
        return Weights(tensors=_read_file(path, field), which=LAST, checkpoint=None, run=None)
    run: Path | None = path
    if is_file(path / SETTINGS_FILE):
        checkpoint = _checkpoint_of_run(path, which, word, field)
    else:
        if which in (BEST, BEST_EMA):
            raise refuse(field, word, f"{which!r} is of a run, and {path} is not a run folder; leave it out")
        try:
            checkpoint = load_checkpoint(path)
        except DamagedCheckpoint as damage:
            rule = f"is not a run folder, a complete checkpoint or a .safetensors file ({damage})"
            raise refuse(field, word, f"{rule}; {which_run(path)}") from damage
        run = run_folder_of(path)
    if which not in (EMA, BEST_EMA):
        return Weights(tensors=checkpoint.weights, which=which, checkpoint=checkpoint, run=run)
    if checkpoint.ema is None:
        raise refuse(field, word, f"the run keeps no moving average (train.ema); leave out ':{which}'")
    return Weights(tensors=checkpoint.ema, which=which, checkpoint=checkpoint, run=run)


def split_name(word: str, field: str = "RUN") -> tuple[Path, str]:
    """The path in a word, and which weights of it are meant: 'last' if the word does not say.

    Raises:
        ConfigError: what stands after the last colon names no weights.
    """
    path, colon, which = word.rpartition(":")
    if not colon or Path(word).exists():
        return Path(word), LAST
    if which not in OF_A_RUN:
        near = nearest(which, OF_A_RUN)
        hint = f"; perhaps you meant {path}:{near}" if near else ""
        raise refuse(field, word, f"after the colon, name one of {', '.join(OF_A_RUN)}{hint}")
    return Path(path), which


def run_of(word: str, field: str = "RUN") -> Path:
    """The run folder whose weights a word names.

    Raises:
        ConfigError: it names none of a run.
    """
    path, _ = split_name(word, field)
    folder = run_folder_of(path)
    if folder is None:
        raise refuse(field, word, f"is neither a run folder nor a checkpoint in one; {which_run(path)}")
    return folder


def _checkpoint_of_run(folder: Path, which: str, word: str, field: str) -> Checkpoint:
    if which in (LAST, EMA):
        newest = newest_checkpoint(folder)
        if newest is None:
            rule = "has no complete checkpoint yet; wait for its first, or name another run"
            raise refuse(field, word, rule)
        return newest
    best = best_checkpoint(folder / CHECKPOINTS_FOLDER)
    if best is None:
        rule = "has no best checkpoint: none was scored on a validation set (data.validation); use RUN:last"
        raise refuse(field, word, rule)
    try:
        return load_checkpoint(best)
    except DamagedCheckpoint as damage:
        raise refuse(field, word, f"its best checkpoint is damaged ({damage}); use RUN:last") from damage


def _read_file(path: Path, field: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(read_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        rule = f"cannot be read as safetensors ({' '.join(str(error).split())}); name another file"
        raise refuse(field, str(path), rule) from error
