"""What a program that trains finds as it left it: handlers, flags, threads, variables, Accelerate's state."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from lockstep.launch.network import INTERFACE_VARIABLES
from lockstep.launch.process.output import lasting_output
from lockstep.launch.process.stop_signals import restored_handlers

VARIABLES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *INTERFACE_VARIABLES,
    *("OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_ENABLE_MPS_FALLBACK", "KINETO_LOG_LEVEL"),
)
"""The environment variables that Lockstep or Accelerate sets in its own process."""
SHARED_STATES = (PartialState, AcceleratorState, GradientState)
"""Classes of Accelerate whose instances in one process all share one dict."""
LOOKED_FOR = "lomo_optim"
"""The module that `start_ranks` marks as absent."""


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Gives the block a process without Accelerate's state, and puts the program's own back at its end.

    It covers all that training changes for the whole process, except that glibc keeps freed memory from then
    on, which cannot be asked for or undone.
    """
    with (
        lasting_output(),
        restored_handlers(),
        _restored_accelerate(),
        _restored_environment(),
        _restored_torch_settings(),
        _restored_cuda(),
    ):
        yield


@contextmanager
def _restored_accelerate() -> Iterator[None]:
    """Hides Accelerate's state for the block: it keeps the precision of the first Accelerator for all others.

    An instance keeps the dict that it began with. So the dicts are exchanged, and neither the program's
    Accelerator nor a run's notices the other.
    """
    before = {state: vars(state)["_shared_state"] for state in SHARED_STATES}
    for state in SHARED_STATES:
        state._shared_state = {}
    try:
        yield
    finally:
        for state, shared in before.items():
            state._shared_state = shared


@contextmanager
def _restored_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in VARIABLES}
    was_looked_for = LOOKED_FOR in sys.modules
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if not was_looked_for:
            sys.modules.pop(LOOKED_FOR, None)


@contextmanager
def _restored_torch_settings() -> Iterator[None]:
    deterministic: Any = torch.utils.deterministic
    num_threads = torch.get_num_threads()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fills_memory = deterministic.fill_uninitialized_memory
    times_kernels = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(is_deterministic, warn_only=warns_only)
        deterministic.fill_uninitialized_memory = fills_memory
        torch.backends.cudnn.benchmark = times_kernels


@contextmanager
def _restored_cuda() -> Iterator[None]:
    """Restores the current device and the devices' generators, but does not initialise CUDA for it."""
    was_initialized = torch.cuda.is_initialized()
    device = torch.cuda.current_device() if was_initialized else 0
    generators = torch.cuda.get_rng_state_all() if was_initialized else []
    seed = torch.default_generator.initial_seed()
    try:
        yield
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.set_device(device)
            if was_initialized:
                torch.cuda.set_rng_state_all(generators)
            else:  # what they would have begun with: torch.manual_seed is passed on when CUDA is initialised
                torch.cuda.manual_seed_all(seed)
