"""Checks an exported model: what another program computes with it is what the model computes."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lockstep.task import call_model

SCRIPT = Path(__file__).with_name("run_exported.py")
TOLERANCE = 1e-3
"""How much an output may differ, relative to the largest one: other kernels round differently."""
PLAIN = ""
"""The name of the input, if the model takes a single tensor."""

Run = Callable[[Any], list[np.ndarray]]
"""From the inputs of a batch to the outputs of a model, in their order."""


class ExportFailure(Exception):
    """A model cannot be exported, or not so that it computes the same; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An exported model and the model, over all samples."""

    num_samples: int
    num_different: int
    """Samples with another prediction; 0 if it is not a classification."""
    difference: float
    """The largest absolute difference of an output."""
    size: float
    """The largest absolute output."""

    @property
    def is_equal(self) -> bool:
        """Whether predictions are the same and outputs nearly so; a number that is not finite never is."""
        is_close = math.isfinite(self.size) and self.difference <= TOLERANCE * max(1.0, self.size)
        return self.num_different == 0 and is_close


def compare(model: nn.Module, run: Run, batches: Iterable[Any], *, is_classification: bool) -> Comparison:
    """Compares a model with an exported one on batches of inputs.

    Args:
        model: in evaluation mode, on the CPU.
        run: computes with the exported one.
        batches: the inputs.
        is_classification: whether the outputs are logits (batch, classes).

    Raises:
        ExportFailure: the exported one has other outputs, or fails.
    """
    num_samples, num_different, difference, size = 0, 0, 0.0, 0.0
    for inputs in batches:
        expected, exported = outputs_of(model, inputs), run(inputs)
        shapes = [[array.shape for array in arrays] for arrays in (expected, exported)]
        if shapes[0] != shapes[1]:
            raise ExportFailure(f"it returns {shapes[1]} where the model returns {shapes[0]}")
        for one, other in zip(expected, exported, strict=True):
            gap = np.abs(one.astype(np.float64) - other.astype(np.float64))
            difference = max(difference, float(gap.max(initial=0))) if np.isfinite(gap).all() else np.inf
            size = max(size, float(np.abs(one).max(initial=0)))
        if is_classification:
            num_different += int((expected[0].argmax(1) != exported[0].argmax(1)).sum())
        num_samples += len(expected[0])
    return Comparison(num_samples=num_samples, num_different=num_different, difference=difference, size=size)


def outputs_of(model: nn.Module, inputs: Any) -> list[np.ndarray]:
    """The outputs of a model in evaluation mode, in their order."""
    with torch.no_grad():
        return [tensor.numpy() for tensor in tensors_in(call_model(model, inputs))]


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in a tree of dicts, tuples and lists.

    Raises:
        ExportFailure: there is something else in it.
    """
    if isinstance(tree, Tensor):
        return [tree]
    if not isinstance(tree, Mapping | tuple | list):
        raise ExportFailure(f"the model returns a {type(tree).__name__}; only tensors can be exported")
    values = tree.values() if isinstance(tree, Mapping) else tree
    return [tensor for value in values for tensor in tensors_in(value)]


@contextmanager
def in_other_process(kind: str, path: Path) -> Iterator[Run]:
    """Runs an exported model in a process that imports nothing of Lockstep, and what will load the model.

    Raises:
        ExportFailure: on use, if that process fails.
    """
    words = [sys.executable, "-I", str(SCRIPT), kind, str(path)]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as messages,  # a pipe that nobody empties would block the process
        subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=messages) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        source, target = process.stdout, process.stdin

        def run(inputs: Any) -> list[np.ndarray]:
            message = io.BytesIO()
            named = inputs if isinstance(inputs, Mapping) else {PLAIN: inputs}
            np.savez(message, **{f"input_{name}": tensor.numpy() for name, tensor in named.items()})
            try:
                target.write(struct.pack(">Q", message.tell()) + message.getvalue())
                target.flush()
                (length,) = struct.unpack(">Q", source.read(8))
                with np.load(io.BytesIO(source.read(length)), allow_pickle=False) as file:
                    return [file[name] for name in sorted(file.files)]
            except (OSError, struct.error) as error:
                process.kill()
                process.wait()
                messages.seek(0)
                said = messages.read().decode(errors="replace")
                last = next(iter(said.strip().splitlines()[-1:]), "no message")
                raise ExportFailure(f"the program that loads it failed: {last}") from error

        try:
            yield run
        finally:
            if process.poll() is None:
                target.close()
                process.wait()


def check_weights(own: Mapping[str, Tensor], path: Path) -> None:
    """Checks that a process without Lockstep loads the same weights from a file of safetensors.

    Raises:
        ExportFailure: it fails, or finds others.
    """
    with in_other_process("safetensors", path) as load:
        names, *values = load({})
    loaded = {name: value.tobytes() for name, value in zip(names.tolist(), values, strict=True)}
    # Not contiguous(), which leaves one element whatever stride it has, and then view refuses it.
    plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in own.items()}
    expected = {name: tensor.flatten().view(torch.uint8) for name, tensor in plain.items()}
    if loaded != {name: value.numpy().tobytes() for name, value in expected.items()}:
        raise ExportFailure("safetensors loads weights from it that differ from the model's")
