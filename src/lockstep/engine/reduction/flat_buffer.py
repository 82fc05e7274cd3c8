"""Packs tensors of any shapes and dtypes into one buffer per dtype, so that one collective moves them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT_BYTES = 512
"""Alignment of each tensor's start, that of torch's CUDA allocator. Kernels choose their instructions, and so
the bits of a result, by alignment: it must be the same on every topology."""


class FlatBuffer:
    """One contiguous buffer per dtype, which divides into equal slices, and a view for each tensor.

    A complex tensor is stored in the buffer of its real dtype, as pairs.
    """

    def __init__(self, like: Sequence[Tensor], num_slices: int) -> None:
        """Allocates the buffers.

        Args:
            like: tensors with the shapes, dtypes and device of the views.
            num_slices: how many equal slices each buffer divides into.
        """
        lengths: dict[torch.dtype, int] = {}
        self.places: list[tuple[torch.dtype, int]] = []
        """Where each view begins: its buffer, by dtype, and the element in it."""
        for tensor in like:
            dtype, width = _real(tensor)
            offset = lengths.get(dtype, 0)
            self.places.append((dtype, offset))
            unit = ALIGNMENT_BYTES // dtype.itemsize
            lengths[dtype] = offset + -(-tensor.numel() * width // unit) * unit
        device = like[0].device if like else torch.device("cpu")
        self._flat = {
            dtype: torch.zeros(-(-length // num_slices) * num_slices, dtype=dtype, device=device)
            for dtype, length in lengths.items()
        }
        self.views = [
            self._view(tensor, offset) for tensor, (_, offset) in zip(like, self.places, strict=True)
        ]

    @property
    def buffers(self) -> list[Tensor]:
        """One per dtype, each (length,)."""
        return list(self._flat.values())

    def fill(self, tensors: Sequence[Tensor] | None) -> None:
        """Copies tensors into their views; None fills them with zeros."""
        if tensors is None:
            torch._foreach_zero_(self.buffers)
        elif self.views:
            torch._foreach_copy_(self.views, list(tensors))

    def _view(self, tensor: Tensor, offset: int) -> Tensor:
        dtype, width = _real(tensor)
        part = self._flat[dtype].narrow(0, offset, tensor.numel() * width)
        if width == 2:
            return torch.view_as_complex(part.view(-1, 2)).view(tensor.shape)
        # The strides of a channels_last weight, so that a copy is one run over memory.
        is_dense = tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
        return part.as_strided(tensor.shape, tensor.stride(), offset) if is_dense else part.view(tensor.shape)


def _real(tensor: Tensor) -> tuple[torch.dtype, int]:
    """The dtype of a tensor's real numbers, and how many of them make one entry."""
    return (tensor.dtype.to_real(), 2) if tensor.is_complex() else (tensor.dtype, 1)
