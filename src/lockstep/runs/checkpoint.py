"""What is saved: complete, verified checkpoints that appear all at once or not at all.

A checkpoint is a folder `step-00000000` of files and a manifest with the SHA-256 of each, written last.
It is made under a temporary name, synced, and published with one rename; only then may older ones go. Nothing
that is loaded can run code.
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
STATE_FILE = "state.pt"
MANIFEST_FILE = "manifest.json"
FORMAT = 1


class DamagedCheckpoint(ValueError):
    """Names the checkpoint and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All state that is needed to go on from a step."""

    step: int
    weights: dict[str, torch.Tensor]
    """The model's state dict."""
    state: dict[str, Any]
    """Optimizer and gradient scaler state, and what else the loop counts: plain values and tensors."""
    info: dict[str, Any]
    """What a person wants to know of it, such as its test accuracy; nothing that the run depends on."""


def weights_sha256(weights: dict[str, torch.Tensor]) -> str:
    """Digest of tensors in name order (name, dtype, shape, bytes): how two runs are compared."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().to("cpu").contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Publishes a checkpoint under `folder`, in one atomic step, and returns its path."""
    files = {
        WEIGHTS_FILE: safetensors.torch.save(
            # Cloned: tied weights share memory, which safetensors refuses.
            {
                name: tensor.detach().to("cpu").contiguous().clone()
                for name, tensor in checkpoint.weights.items()
            }
        ),
        STATE_FILE: _torch_bytes(checkpoint.state),
    }
    manifest = {
        "format": FORMAT,
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
    remove_checkpoint(target)  # one of the same step: a rename needs an empty place
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
    try:
        content = {name: (path / name).read_bytes() for name in (WEIGHTS_FILE, STATE_FILE)}
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {error.strerror}: {Path(error.filename).name}") from error
    for name, digest in expected.items():
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise DamagedCheckpoint(f"{path}: {name} does not have the SHA-256 that {MANIFEST_FILE} states")
    return Checkpoint(
        step=manifest["step"],
        weights=safetensors.torch.load(content[WEIGHTS_FILE]),
        state=torch.load(io.BytesIO(content[STATE_FILE]), map_location="cpu", weights_only=True),
        info=manifest["info"],
    )


def read_info(path: Path) -> dict[str, Any]:
    """A checkpoint's `info`, empty where it cannot be read."""
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
        raise DamagedCheckpoint(f"{path}: {MANIFEST_FILE} does not have the SHA-256 that it states")
    if manifest["format"] != FORMAT:
        raise DamagedCheckpoint(f"{path}: format {manifest['format']}, this version reads {FORMAT}")
    return manifest


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def remove_checkpoint(path: Path) -> None:
    """Takes a checkpoint away in one step; what another program still reads is deleted later."""
    if path.exists():
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
        shutil.rmtree(old, ignore_errors=True)


def _torch_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
