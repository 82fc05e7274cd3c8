"""The number formats of a model's weights."""

from __future__ import annotations

import torch
from torch import nn


def dtype_remedy(model: nn.Module) -> str:
    """What to do about a forward that fails, if weights that are not float32 may be why; else empty."""
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32}
    if not dtypes:
        return ""
    names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    return f"its weights are {names}; keep them in float32 with .float(), and choose --precision bf16 or fp16"
