"""Runs an exported model as another program would: a script that imports nothing of Lockstep.

`python -I run_exported.py KIND FILE` answers each message on stdin with one on stdout. A message is its
length (8 bytes) and an npz file: of the model's inputs by name, and of its outputs in their order.
"""

import io
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[dict[str, Any]], list[Any]]


def open_onnx(path: str) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: dict[str, Any]) -> list[Any]:
        # A dict's entries keep their names; a single tensor is named after the argument of the forward.
        feed = inputs if set(inputs) == set(names) else dict(zip(names, inputs.values(), strict=True))
        return session.run(None, feed)

    return run


def open_pt2(path: str) -> Run:
    import torch

    model = torch.export.load(path).module()

    def leaves(tree: Any) -> list[Any]:
        if isinstance(tree, torch.Tensor):
            return [tree.detach().numpy()]
        values = tree.values() if isinstance(tree, dict) else tree
        return [leaf for value in values for leaf in leaves(value)]

    def run(inputs: dict[str, Any]) -> list[Any]:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.no_grad():
            return leaves(model(*tensors.values()) if set(tensors) == {""} else model(**tensors))

    return run


def open_safetensors(path: str) -> Run:
    """Answers with the names of the tensors, and the bytes of each: NumPy lacks bfloat16."""
    import safetensors.torch
    import torch

    weights = safetensors.torch.load_file(path)

    def run(_: dict[str, Any]) -> list[Any]:
        names = sorted(weights)
        values = [weights[name].flatten().view(torch.uint8).numpy() for name in names]
        return [np.array(names), *values]

    return run


def main() -> None:
    kind, path = sys.argv[1:]
    run = {"onnx": open_onnx, "pt2": open_pt2, "safetensors": open_safetensors}[kind](path)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(8):
        (length,) = struct.unpack(">Q", header)
        with np.load(io.BytesIO(source.read(length)), allow_pickle=False) as file:
            outputs = run({name.removeprefix("input_"): file[name] for name in file.files})
        answer = io.BytesIO()
        np.savez(answer, **{f"output_{index:05}": array for index, array in enumerate(outputs)})
        target.write(struct.pack(">Q", answer.tell()) + answer.getvalue())
        target.flush()


if __name__ == "__main__":
    assert not any(name.partition(".")[0] == "lockstep" for name in sys.modules)
    main()
