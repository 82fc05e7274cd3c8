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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from lockstep.runs.files import step_name, sync_folder, write_synced

WEIGHTS_FILE = "weights.safetensors"
EMA_FILE = "ema.safetensors"
"""Only in checkpoints of a run with train.ema."""
STATE_FILE = "state.pt"
MANIFEST_FILE = "manifest.json"
CHECKPOINT_FILES = (WEIGHTS_FILE, EMA_FILE, STATE_FILE, MANIFEST_FILE)
FORMAT, FORMAT_WITH_EMA = 1, 2
"""A version that knows no EMA_FILE must refuse the second one, not resume without it."""


class DamagedCheckpoint(ValueError):
    """A checkpoint cannot be loaded; the message names it and says what is wrong."""


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
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint into `folder` atomically and returns its path."""
    files = {
        WEIGHTS_FILE: _safetensors_bytes(checkpoint.weights),
        STATE_FILE: _torch_bytes(checkpoint.state),
    }
    if checkpoint.ema is not None:
        files[EMA_FILE] = _safetensors_bytes(checkpoint.ema)
    manifest = {
        "format": FORMAT if checkpoint.ema is None else FORMAT_WITH_EMA,
        "step": checkpoint.step,
        "info": checkpoint.info,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    manifest["manifest_sha256"] = _manifest_sha256(manifest)
    target = folder / step_name(checkpoint.step)
    scratch = folder / f".{target.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, content in files.items():
        write_synced(scratch / name, content)
    write_synced(scratch / MANIFEST_FILE, json.dumps(manifest, indent=1).encode())
    sync_folder(scratch)
    remove_checkpoint(target)  # of the same step; os.replace needs a free name
    os.replace(scratch, target)
    sync_folder(folder)
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint after checking every file against its manifest.

    Raises:
        DamagedCheckpoint: a file is missing, short or changed.
    """
    manifest = _read_manifest(path)
    expected: dict[str, str] = manifest["sha256"]
    names = [WEIGHTS_FILE, STATE_FILE, *([EMA_FILE] if EMA_FILE in expected else [])]
    try:
        content = {name: (path / name).read_bytes() for name in names}
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {error.strerror}: {Path(error.filename).name}") from error
    for name, digest in expected.items():
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise DamagedCheckpoint(f"{path}: {name} does not match its SHA-256 in {MANIFEST_FILE}")
    return Checkpoint(
        step=manifest["step"],
        weights=safetensors.torch.load(content[WEIGHTS_FILE]),
        state=torch.load(io.BytesIO(content[STATE_FILE]), map_location="cpu", weights_only=True),
        info=manifest["info"],
        ema=safetensors.torch.load(content[EMA_FILE]) if EMA_FILE in content else None,
    )


def read_info(path: Path) -> dict[str, Any]:
    """A checkpoint's `info`; empty if it cannot be read."""
    try:
        return _read_manifest(path)["info"]
    except DamagedCheckpoint:
        return {}


def _read_manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest, checked against its own digest."""
    try:
        manifest = json.loads((path / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {error.strerror}: {MANIFEST_FILE}") from error
    except ValueError as error:
        raise DamagedCheckpoint(f"{path}: {MANIFEST_FILE} is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.pop("manifest_sha256", None) != _manifest_sha256(manifest):
        raise DamagedCheckpoint(f"{path}: {MANIFEST_FILE} does not match its own SHA-256")
    if manifest["format"] not in (FORMAT, FORMAT_WITH_EMA):
        raise DamagedCheckpoint(
            f"{path}: has format {manifest['format']}; this version of lockstep reads formats {FORMAT} and "
            f"{FORMAT_WITH_EMA}"
        )
    return manifest


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


def _torch_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
