"""Writes and reads checkpoints: complete and verified, there as a whole or not at all.

A checkpoint is a folder `step-00000000` of files and, written last, a manifest of their SHA-256. It is made
under a temporary name, synced, and given its own name by one rename; only then may older ones be deleted.
Loading a checkpoint cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch

from lockstep.config import NoFile, error_text, read_file, with_retries
from lockstep.errors import ConfigError, short_message
from lockstep.runs.folder.disk import written
from lockstep.runs.folder.files import (
    MISSING,
    PARTIAL,
    checkpoint_step,
    finite,
    is_checkpoint,
    step_name,
    sync_folder,
    write_synced,
)

T = TypeVar("T")
WEIGHTS_FILE = "weights.safetensors"
EMA_FILE = "ema.safetensors"
"""Only in checkpoints of a run with train.ema."""
STATE_FILE = "state.pt"
MANIFEST_FILE = "manifest.json"
CHECKPOINT_FILES = (WEIGHTS_FILE, EMA_FILE, STATE_FILE, MANIFEST_FILE)
FORMAT, FORMAT_WITH_EMA = 1, 2
"""A version that knows no EMA_FILE must refuse the second one, not resume without it."""
FILES = {FORMAT: {WEIGHTS_FILE, STATE_FILE}, FORMAT_WITH_EMA: {WEIGHTS_FILE, STATE_FILE, EMA_FILE}}
"""Format → the files that its manifest names."""


NUMBERS = ("selection_score", "train_seconds")
"""In `info`: what a start computes with."""


class DamagedCheckpoint(ValueError):
    """A checkpoint is not what was saved; the message names it and says what is wrong."""


class UnreadableCheckpoint(ConfigError):
    """A checkpoint may well be whole, but not for this process: no permission, a disk error, another format.

    It must not be passed over like a damaged one: the run would continue without it.
    """


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All state that a run needs to resume after a step."""

    step: int
    weights: dict[str, torch.Tensor]
    """The model's state dict."""
    state: dict[str, Any]
    """The state of optimizer and gradient scaler, and what else the loop counts: plain values and tensors."""
    info: dict[str, Any]
    """Facts for people, such as the test accuracy; nothing that training depends on."""
    ema: dict[str, torch.Tensor] | None = None
    """The same state dict with the moving averages of the trained parameters, if the run keeps any."""


def weights_sha256(weights: dict[str, torch.Tensor]) -> str:
    """Digest of tensors in name order (name, dtype, shape, bytes). Two runs with equal digests are equal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().to("cpu").contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Not flatten: a contiguous tensor of one element may have any stride, and then view refuses it.
        digest.update(tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint into `folder` atomically and returns its path.

    Raises:
        RunStopped: the disk is full, or cannot be written for now. Older checkpoints are as they were.
    """
    files = {
        WEIGHTS_FILE: _safetensors_bytes(checkpoint.weights),
        STATE_FILE: _torch_bytes(checkpoint.state),
    }
    if checkpoint.ema is not None:
        files[EMA_FILE] = _safetensors_bytes(checkpoint.ema)
    manifest = {
        "format": FORMAT if checkpoint.ema is None else FORMAT_WITH_EMA,
        "step": checkpoint.step,
        "info": finite(checkpoint.info),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    manifest["manifest_sha256"] = _manifest_sha256(manifest)
    target = folder / step_name(checkpoint.step)
    scratch = folder / f".{target.name}{PARTIAL}"

    def write() -> None:
        # All of it again after an error: a disk may keep less of a file whose sync has failed than it says.
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            for name, content in files.items():
                write_synced(scratch / name, content)
            write_synced(scratch / MANIFEST_FILE, json.dumps(manifest, indent=1).encode())
            sync_folder(scratch)
            remove_checkpoint(target)  # of the same step; os.replace needs a free name
            os.replace(scratch, target)
            sync_folder(folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)  # so that the free space reported does not count it
            raise

    written(target, sum(map(len, files.values())), lambda: with_retries(target, write))
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint after checking every file against its manifest.

    Raises:
        DamagedCheckpoint: a file is missing, short or changed, or does not hold what it should.
        UnreadableCheckpoint: it cannot be read, or is of another format.
    """
    manifest = _read_manifest(path)
    content = {name: _read(path, name) for name in manifest["sha256"]}
    for name, digest in manifest["sha256"].items():
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise DamagedCheckpoint(f"{path}: {name} does not match its SHA-256 in {MANIFEST_FILE}")

    def weights(name: str) -> dict[str, torch.Tensor]:
        return _decoded(path, name, lambda: safetensors.torch.load(content[name]))

    def state() -> dict[str, Any]:
        return torch.load(io.BytesIO(content[STATE_FILE]), map_location="cpu", weights_only=True)

    return Checkpoint(
        step=manifest["step"],
        weights=weights(WEIGHTS_FILE),
        state=_decoded(path, STATE_FILE, state),
        info=manifest["info"],
        ema=weights(EMA_FILE) if EMA_FILE in content else None,
    )


def read_info(path: Path) -> dict[str, Any]:
    """A checkpoint's `info`.

    Raises:
        DamagedCheckpoint, UnreadableCheckpoint: as for `load_checkpoint`.
    """
    return _read_manifest(path)["info"]


def _read_manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest, checked against its own digest and for what it must hold."""
    manifest = _decoded(path, MANIFEST_FILE, lambda: json.loads(_read(path, MANIFEST_FILE)))
    if not isinstance(manifest, dict) or manifest.pop("manifest_sha256", None) != _manifest_sha256(manifest):
        raise DamagedCheckpoint(f"{path}: {MANIFEST_FILE} does not match its own SHA-256")
    if manifest.get("format") not in FILES:
        raise UnreadableCheckpoint(
            f"{path}: has format {manifest.get('format')}; this version of Lockstep reads formats "
            f"{' and '.join(map(str, FILES))}; continue with the version that wrote it"
        )
    step, digests = manifest.get("step"), manifest.get("sha256")
    info = manifest.get("info")
    has_facts = isinstance(info, dict) and all(
        isinstance(info.get(name, 0), int | float | None) for name in NUMBERS
    )
    is_whole = type(step) is int and has_facts
    if not is_whole or not isinstance(digests, dict) or set(digests) != FILES[manifest["format"]]:
        raise DamagedCheckpoint(f"{path}: {MANIFEST_FILE} does not name its step, its facts and its files")
    if is_checkpoint(path) and step != checkpoint_step(path):
        raise DamagedCheckpoint(f"{path}: {MANIFEST_FILE} is that of step {step}")
    return manifest


def _read(path: Path, name: str) -> bytes:
    """The bytes of a checkpoint's file."""
    try:
        return read_file(path / name)
    except NoFile as error:
        raise DamagedCheckpoint(f"{path}: {name} {error}") from error
    except MISSING as error:
        raise DamagedCheckpoint(f"{path}: {error.strerror}: {name}") from error
    except OSError as error:
        raise UnreadableCheckpoint(
            f"{path}: {name} cannot be read ({error_text(error)}); make it readable, then run the same "
            "command again"
        ) from error


def _decoded(path: Path, name: str, decode: Callable[[], T]) -> T:
    """What a checkpoint's file holds. Whatever its decoder raises is damage, except for a lack of memory."""
    try:
        return decode()
    except (DamagedCheckpoint, UnreadableCheckpoint, MemoryError):
        raise
    except Exception as error:
        raise DamagedCheckpoint(f"{path}: {name} cannot be decoded ({short_message(error)})") from error


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def remove_checkpoint(path: Path) -> None:
    """Deletes a checkpoint, atomically at first: one rename hides it, even if a reader delays the rest."""
    if path.exists():
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
        shutil.rmtree(old, ignore_errors=True)


def _safetensors_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    # Cloned, because tied weights share memory and safetensors refuses that.
    copies = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    return safetensors.torch.save(copies)


def scratch_folders_in(folder: Path) -> list[Path]:
    """What saves and deletions that were killed have left in a folder of checkpoints."""
    return [
        path
        for ending in (PARTIAL, ".old")
        for path in folder.glob(f".*{ending}")
        if is_checkpoint(path.with_name(path.name.removesuffix(ending)[1:]))
    ]


def _torch_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
