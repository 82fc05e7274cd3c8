"""How a worker hands over a small tensor: in the message itself, not in shared memory.

torch puts each tensor into shared memory of its own, whose descriptor the other process then asks for over a
socket: 0.4 ms of CPU time in both processes on a slow machine, also for the 256 bytes of 32 labels.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

SMALL_BYTES = 2**16
"""What a pipe of Linux holds: a worker that sends no more need not wait for its reader."""


def send_small_tensors_in_messages() -> None:
    """What this process sends to another from now on. To be called in a worker."""
    ForkingPickler.register(Tensor, _reduced)


def _reduced(tensor: Tensor) -> Any:
    is_plain = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized)
    if type(tensor) is not Tensor or not is_plain or tensor.requires_grad:
        return reduce_tensor(tensor)
    tensor = tensor.resolve_conj().resolve_neg()  # torch sends no such bit
    if tensor.device.type != "cpu" or not 0 < tensor.nbytes <= SMALL_BYTES or not tensor.is_contiguous():
        return reduce_tensor(tensor)
    # Not flatten: a contiguous tensor of one element may have any stride, and then view refuses it.
    content = bytearray(tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy())
    return _tensor_of, (content, tensor.dtype, tensor.shape, tensor.stride())


def _tensor_of(content: bytearray, dtype: torch.dtype, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """The tensor as it was, strides included, in memory of torch's own: kernels, and so bits, may depend on
    both."""
    return torch.frombuffer(content, dtype=dtype).clone().as_strided(shape, strides)
