"""Samples and batches as trees of tensors, arrays, images, numbers and text: digests, shapes, differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def add_value(digest: hashlib._Hash, value: Any) -> None:
    """Adds a tree to a digest."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            add_value(digest, value[key])
    elif isinstance(value, tuple | list):
        for entry in value:
            add_value(digest, entry)
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        values = value.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
        # Not flatten: a contiguous tensor of one element may have any stride, and then view refuses it.
        digest.update(values.as_strided((values.numel(),), (1,)).view(torch.uint8).numpy().data)
    elif isinstance(value, str | int | float | bool) or value is None:
        digest.update(json.dumps(value).encode())
    else:
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape}".encode())
        if array.dtype != object:  # its bytes would be addresses
            digest.update(np.ascontiguousarray(array).tobytes())


def first_difference(one: Any, other: Any, path: str) -> str:
    """Where two trees differ first, such as "input['image']" if the path is 'input'; empty if nowhere."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and list(one) == list(other):
        places = [(f"{path}[{key!r}]", one[key], other[key]) for key in one]
    elif isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
        places = [(f"{path}[{index}]", *pair) for index, pair in enumerate(zip(one, other, strict=True))]
    else:
        return "" if _bits(one) == _bits(other) else path
    return next(filter(None, (first_difference(a, b, place) for place, a, b in places)), "")


def _bits(value: Any) -> bytes:
    # With the structure: the numbers of [1, 2] and of [12] give the same bytes.
    digest = hashlib.sha256(f"{type(value).__name__} {shapes_of(value)}".encode())
    add_value(digest, value)
    return digest.digest()


def shapes_of(value: Any) -> str:
    """The shapes in a tree, for messages."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {shapes_of(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(shapes_of, value)) + "]"
    return str(tuple(value.shape)) if isinstance(value, Tensor | np.ndarray) else type(value).__name__
