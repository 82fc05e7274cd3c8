"""Writes a model in the formats that other programs load: ONNX and torch.export."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.errors import refuse
from lockstep.inference.export_check import ExportFailure

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MAX_ONNX_BYTES = 2**31 - 2**24
"""An ONNX file is one protobuf message, which holds at most 2 GiB."""


def write_onnx(model: nn.Module, inputs: Any, path: Path, *, is_classification: bool) -> None:
    """Writes a model in evaluation mode as ONNX, for batches of any size.

    Args:
        model: on the CPU.
        inputs: of a batch of two or more samples.
        path: the file.
        is_classification: whether its output is named 'logits'.

    Raises:
        ExportFailure: it cannot be exported.
    """
    num_bytes = sum(tensor.numel() * tensor.itemsize for tensor in model.state_dict().values())
    if num_bytes > MAX_ONNX_BYTES:
        raise ExportFailure(f"its weights have {num_bytes / 1e9:.1f} GB, and an ONNX file holds at most 2")
    args, kwargs, shapes = arguments(inputs)
    with quiet_export():
        program = torch.onnx.export(
            model,
            args,
            kwargs=kwargs,
            dynamo=True,
            dynamic_shapes=shapes,
            output_names=["logits"] if is_classification else None,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def write_pt2(model: nn.Module, inputs: Any, path: Path) -> None:
    """Writes a model in evaluation mode with torch.export, for batches of any size.

    Raises:
        ExportFailure: it cannot be exported.
    """
    args, kwargs, shapes = arguments(inputs)
    with quiet_export():
        program = torch.export.export(model, args, kwargs, dynamic_shapes=shapes)
        torch.export.save(program, path)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """The inputs of a batch as arguments, keyword arguments and their shapes, of which the first is dynamic.

    Raises:
        ExportFailure: the inputs are neither a tensor nor a dict of tensors.
    """
    batch = torch.export.Dim("batch")
    if isinstance(inputs, Tensor):
        return (inputs,), {}, ({0: batch},)
    if isinstance(inputs, Mapping) and all(isinstance(value, Tensor) for value in inputs.values()):
        return (), dict(inputs), {name: {0: batch} for name in inputs}
    raise ExportFailure("its inputs are neither a tensor nor a dict of tensors")


@contextmanager
def quiet_export() -> Iterator[None]:
    """What torch raises for a model becomes one line; its warnings are for those who work on torch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ExportFailure:
        raise
    except Exception as error:  # torch's and onnxscript's errors have no class in common
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if not line.startswith("[")), type(error).__name__)
        raise ExportFailure(f"torch cannot export it: {type(error).__name__}: {reason[:300]}") from error


def check_onnx_packages() -> None:
    """Checks that what ONNX needs is installed.

    Raises:
        ConfigError: it is not; says what to install.
    """
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        rule = f"needs {', '.join(missing)}; install with: pip install lockstep-trainer[export]"
        raise refuse("--format", "onnx", rule)
