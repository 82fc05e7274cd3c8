"""A digest of the weights, compared across ranks: all must hold the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lockstep.errors import RunStopped
from lockstep.launch.ranks.ranks import Ranks

# Knuth's multiplier for 64 bits (MMIX), odd; int64 arithmetic wraps.
MULTIPLIER = 6364136223846793005


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model, by name: parameters, tied ones once, and persistent buffers."""
    persistent = model.state_dict(keep_vars=True).keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


def tensor_digests(tensors: Iterable[Tensor]) -> Tensor:
    """A 64-bit digest of each tensor, int64 (tensors,), on the device.

    The sum of the values' bit patterns, each multiplied by an odd number made from its index, modulo 2**64.
    Integer addition has no rounding, so its order does not matter; changing one value always changes the sum.
    """
    digests = []
    for tensor in tensors:
        # Not flatten: a contiguous tensor of one element may have any stride, and then view refuses it.
        bits = tensor.detach().contiguous().as_strided((tensor.numel(),), (1,)).view(torch.uint8)
        width = 4 if bits.numel() % 4 == 0 else 1
        words = bits.view(torch.int32).long() if width == 4 else bits.long()
        indices = torch.arange(words.numel(), device=words.device)
        digests.append((words * (indices * MULTIPLIER | 1)).sum())
    return torch.stack(digests)


def agreed_digest(model: nn.Module, ranks: Ranks, step: int) -> str:
    """Compares all ranks' weights and returns their digest, 16 hex digits. All ranks must call it.

    Raises:
        RunStopped: the ranks' weights differ; names the step, the ranks and the first tensor that differs.
    """
    return agreed_digest_of(state_tensors(model), ranks, step, "weights")


def agreed_digest_of(tensors: Mapping[str, Tensor], ranks: Ranks, step: int, what: str) -> str:
    """The same for any tensors by name, such as averages of the weights; `what` they are, for the message."""
    digests = ranks.gather(tensor_digests(tensors.values()).unsqueeze(0))  # (world, tensors)
    differs = digests != digests[0]
    if differs.any():
        first = int(differs.any(dim=0).nonzero()[0])
        name = list(tensors)[first]
        others = differs.any(dim=1).nonzero().flatten().tolist()
        raise RunStopped(
            f"step {step}: the {what} of ranks {others} differ from those of rank 0, first in {name}; "
            "run the same command again to resume from the last checkpoint, where they were still equal"
        )
    return hashlib.sha256(digests[0].numpy().tobytes()).hexdigest()[:16]
