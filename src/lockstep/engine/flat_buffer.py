"""Tensors of any shapes and dtypes side by side in one buffer a dtype, so that one collective moves them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT_BYTES = 512
"""Of each tensor's start, as torch's CUDA allocator aligns: a kernel may choose its instructions by alignment,
and so its bits; here it is the same on every topology."""


class FlatBuffer:
    """One contiguous buffer a dtype, each a whole number of equal slices long, and a view for each tensor.

    A complex tensor lies in the buffer of its real dtype, as pairs.
    """

    def __init__(self, like: Sequence[Tensor], num_slices: int) -> None:
        """Args: like: what the views look like; num_slices: equal slices that each buffer divides into."""
        lengths: dict[torch.dtype, int] = {}
        offsets = []
        for tensor in like:
            dtype, width = _real(tensor)
            offset = lengths.get(dtype, 0)
            offsets.append(offset)
            unit = ALIGNMENT_BYTES // dtype.itemsize
            lengths[dtype] = offset + -(-tensor.numel() * width // unit) * unit
        device = like[0].device if like else torch.device("cpu")
        self._flat = {
            dtype: torch.zeros(-(-length // num_slices) * num_slices, dtype=dtype, device=device)
            for dtype, length in lengths.items()
        }
        self.views = [self._view(tensor, offset) for tensor, offset in zip(like, offsets, strict=True)]

    @property
    def buffers(self) -> list[Tensor]:
        """One a dtype, (length,)."""
        return list(self._flat.values())

    def fill(self, tensors: Sequence[Tensor] | None) -> None:
        """Copies tensors to their views; None: zeros."""
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
    """The dtype of a tensor's numbers, and how many of them make an entry."""
    return (tensor.dtype.to_real(), 2) if tensor.is_complex() else (tensor.dtype, 1)
