"""Process set-up and the facts and agreements of the ranks.

Two channels join the ranks. Tensors that live on the device go over Accelerate's process group. Decisions
(agree, on_main, broadcast) go over a gloo group on the CPU, so that asking "does anyone want to stop?" never
waits for the GPU.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from lockstep.config import Config
from lockstep.errors import AgreedStop, ConfigError, RankError
from lockstep.launch import Launch, device_index, srun_rendezvous
from lockstep.machine import keep_freed_memory, num_cores

T = TypeVar("T")


class PeerError(RuntimeError):
    """Raised on a rank because another one failed; the traceback that matters is printed there."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among its peers."""

    accelerator: Accelerator
    rank: int
    world_size: int
    num_threads: int
    control: dist.ProcessGroup | None
    """The gloo group for decisions; None in a world of one."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def agree(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank gets the same answer."""
        if self.control is None:
            return flag
        answer = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=self.control)
        return bool(answer.item())

    def broadcast(self, value: T) -> T:
        """The main rank's value, on every rank."""
        if self.control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def on_main(self, action: Callable[[], T]) -> T:
        """Runs an action on the main rank while the others wait; its result, or its failure, reaches all.

        Raises:
            ConfigError: on every rank, if the action raised it.
            PeerError: on the other ranks, if the action failed in any other way.
        """
        failure: BaseException | None = None
        outcome: tuple[str, Any] = ("", None)
        if self.is_main:
            try:
                outcome = ("done", action())
            except ConfigError as error:
                outcome = ("refused", str(error))
            except Exception as error:
                failure, outcome = error, ("failed", repr(error))
        status, value = self.broadcast(outcome)
        if failure is not None:
            raise failure
        if status == "refused":
            raise ConfigError(value)
        if status == "failed":
            raise PeerError(f"the main rank failed: {value}")
        return value

    def together(self, action: Callable[[], T]) -> T:
        """Runs an action on every rank; a user's mistake that one of them finds is raised on all.

        Raises:
            ConfigError: on every rank, the first one's.
        """
        outcome: T | None = None
        mistake = ""
        try:
            outcome = action()
        except ConfigError as error:
            mistake = str(error)
        mistakes = [text for text in self.gather_objects(mistake) if text]
        if mistakes:
            raise ConfigError(mistakes[0])
        return cast(T, outcome)

    def barrier(self) -> None:
        """Waits for all ranks, on the CPU."""
        if self.control is not None:
            dist.barrier(group=self.control)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Rows of all ranks, in rank order, on the CPU: shape (world_size * rows, ...)."""
        mine = values.detach().to("cpu").contiguous()
        if self.control is None:
            return mine
        everyone = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(everyone, mine, group=self.control)
        return torch.cat(everyone)

    def gather_objects(self, value: T) -> list[T]:
        """Every rank's value, in rank order, on every rank."""
        values: list[Any] = [value] * self.world_size
        if self.control is not None:
            dist.all_gather_object(values, value, group=self.control)
        return values

    def close(self) -> None:
        """Leaves the process group."""
        if dist.is_initialized():
            gc.collect()  # a DistributedDataParallel in a reference cycle would outlive its group
            dist.destroy_process_group()


@contextmanager
def joined(launch: Launch, precision: str) -> Iterator[Ranks]:
    """The ranks, joined for as long as the block lasts. All ranks leave it in the same way.

    Where one rank failed alone its peers may wait in a collective for ever, and leaving the group would wait
    for them: then the process just ends, its launcher ends the others, and the traceback is not held back.
    """
    ranks = start_ranks(launch, precision)
    try:
        yield ranks
    except (ConfigError, AgreedStop):
        ranks.close()
        raise
    ranks.close()


def resolve_precision(config: Config, launch: Launch) -> Config:
    """The config with the precision that runs: its own, or the launcher's where it says 'auto'.

    Raises:
        RankError: the two name different ones, or the launcher's is none of ours.
    """
    wanted = config.precision
    if wanted == "auto":
        if launch.precision not in ("no", "bf16", "fp16"):
            raise RankError(f"--mixed_precision {launch.precision}: must be no, bf16 or fp16")
        return replace(config, precision=launch.precision)  # type: ignore[arg-type]  # checked above
    if launch.precision not in ("no", wanted):
        raise RankError(
            f"precision = {wanted!r}: the launcher says --mixed_precision {launch.precision}; "
            "state it in one place, or in both the same"
        )
    return config


def start_ranks(launch: Launch, precision: str) -> Ranks:
    """Joins the process group and picks the device: CUDA, else MPS, else CPU.

    Args:
        launch: what the launcher asked for.
        precision: 'no', 'bf16' or 'fp16'.

    Raises:
        RankError: the device cannot do the precision, or the world is not the one that was asked for.
    """
    has_mps = torch.backends.mps.is_available() and launch.world_size == 1  # no backend joins MPS processes
    use_cpu = launch.wants_cpu or not (torch.cuda.is_available() or has_mps)
    kind = "cpu" if use_cpu else "cuda" if torch.cuda.is_available() else "mps"
    check_precision(precision, kind)
    if launch.launcher == "srun":
        os.environ.update(srun_rendezvous())
        if kind == "cuda":
            os.environ["LOCAL_RANK"] = str(device_index(launch, torch.cuda.device_count()))
    # A process that takes every core while its neighbours do the same is over ten times slower.
    if use_cpu and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, num_cores() // launch.local_world_size))
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if importlib.util.find_spec("lomo_optim") is None:
        # Accelerate's optimizer looks for this package twice a step, through all of sys.path: 0.4 ms. An
        # import system that knows it to be absent answers at once.
        sys.modules["lomo_optim"] = None  # type: ignore[assignment]
    if use_cpu:
        keep_freed_memory()
    accelerator = Accelerator(
        cpu=use_cpu,
        mixed_precision=precision,
        # Gradients that are views of the buckets save one copy a step.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if accelerator.num_processes != launch.world_size:
        raise RankError(
            f"world size = {accelerator.num_processes}: {launch.launcher} asked for {launch.world_size}; "
            "start the processes with accelerate launch --multi_gpu, torchrun or srun"
        )
    control: Any = None
    if launch.world_size > 1:
        control = dist.new_group(backend="gloo", timeout=timedelta(hours=1))
    return Ranks(
        accelerator=accelerator,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_threads=torch.get_num_threads(),
        control=control,
    )


def check_precision(precision: str, device_type: str) -> None:
    """Checks that a kind of device, 'cuda' (the current one), 'mps' or 'cpu', does a precision.

    Raises:
        RankError: it does not.
    """
    if precision == "fp16" and device_type != "cuda":
        raise RankError(
            f"precision = 'fp16': needs a CUDA device, and this process has {device_type}; use bf16 or no"
        )
    if (
        precision == "bf16"
        and device_type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise RankError("precision = 'bf16': this GPU cannot do it; use fp16 or no")
