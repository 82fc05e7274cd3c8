"""The precision of a run: the one that the settings or the launcher name, if the device supports it."""

from __future__ import annotations

from dataclasses import replace

import torch

from lockstep.config import Config
from lockstep.errors import RankError
from lockstep.launch.launcher.accelerate_defaults import as_in_default_config
from lockstep.launch.launcher.variables import Launch


def resolve_precision(config: Config, launch: Launch) -> Config:
    """The config with the precision that is used: its own, or the launcher's if its own is 'auto'.

    Raises:
        RankError: the two differ, or Lockstep does not support the launcher's.
    """
    wanted = config.precision
    source = as_in_default_config("mixed_precision", launch.precision)
    if wanted == "auto":
        if launch.precision not in ("no", "bf16", "fp16"):
            raise RankError(f"--mixed_precision = {launch.precision!r}{source}: must be no, bf16 or fp16")
        return replace(config, precision=launch.precision)  # type: ignore[arg-type]  # checked above
    if launch.precision not in ("no", wanted):
        raise RankError(
            f"precision = {wanted!r}: the launcher has --mixed_precision {launch.precision}{source}; "
            "set only one of them, or both to the same"
        )
    return config


def check_precision(precision: str, device_type: str) -> None:
    """Checks that a device type, 'cuda' (the current device) or 'cpu', supports a precision.

    Raises:
        RankError: it does not.
    """
    if precision == "fp16" and device_type != "cuda":
        raise RankError(
            f"precision = 'fp16': needs a CUDA device, but this process has {device_type}; use bf16 or no"
        )
    if (
        precision == "bf16"
        and device_type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise RankError("precision = 'bf16': this GPU does not support it; use fp16 or no")
