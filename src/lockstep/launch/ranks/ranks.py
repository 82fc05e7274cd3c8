"""The ranks of a run: which one this process is, and how they agree on decisions.

Two process groups connect the ranks. Tensors on the device go over Accelerate's. Decisions (agree, on_main,
broadcast) go over a gloo group on the CPU, so asking "does anyone want to stop?" never waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator

from lockstep.errors import ConfigError, PeerError, RunStopped, is_agreed
from lockstep.launch.liveness.lifeline import Lifeline
from lockstep.launch.ranks.node_groups import NodeGroups

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among the ranks. Where a method is a collective, all ranks must call it."""

    accelerator: Accelerator
    rank: int
    world_size: int
    num_threads: int
    control: dist.ProcessGroup | None
    """The gloo group for decisions; None if the world size is 1."""
    owns_group: bool
    """Whether the default process group was made for these ranks, and not by the program before."""
    lifeline: Lifeline | None = None
    """What ends a wait for a rank that is gone, or that stands still."""
    nodes: NodeGroups | None = None
    """Groups within a node and across nodes, if several nodes have the same power of two of ranks. None in
    a group the program made."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def agree(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank gets the same answer. A collective."""
        return self.begin_agreement(lambda: flag)()

    def begin_agreement(self, flag: Callable[[], bool]) -> Callable[[], bool]:
        """Begins to find out whether a flag is set on any rank. A collective.

        Gloo passes the answer from rank to rank in a thread of its own: 0.1 ms for 2 ranks, and longer with
        each further one. So whoever asks has something to do meanwhile.

        Returns:
            A function to be called once, which waits for the answer. All ranks get the same. A rank alone
            looks at its flag only then.
        """
        if self.control is None:
            return flag
        answer = torch.tensor([flag()], dtype=torch.int32)
        work = dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=self.control, async_op=True)

        def wait() -> bool:
            with self._waiting():
                work.wait()
            return bool(answer.item())

        return wait

    def broadcast(self, value: T) -> T:
        """The main rank's value, on every rank. A collective."""
        if self.control is None:
            return value
        box = [value]
        with self._waiting():
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def on_main(self, action: Callable[[], T]) -> T:
        """Runs an action on the main rank while the others wait; all get its result or failure. A collective.

        Raises:
            ConfigError, RunStopped: on every rank, if the action raised it.
            PeerError: on the other ranks, if the action failed in any other way.
        """
        failure: BaseException | None = None
        outcome: tuple[str, Any] = ("", None)
        if self.is_main:
            try:
                outcome = ("done", action())
            except ConfigError as error:
                outcome = ("refused", str(error))
            except RunStopped as error:
                outcome = ("stopped", str(error))
            except Exception as error:
                failure, outcome = error, ("failed", repr(error))
        status, value = self.broadcast(outcome)
        if failure is not None:
            raise failure
        if status == "refused":
            raise ConfigError(value)
        if status == "stopped":
            raise RunStopped(value)
        if status == "failed":
            raise PeerError(f"rank 0 failed: {value}")
        return value

    def on_all(self, action: Callable[[], T]) -> T:
        """Runs an action on every rank; a user's mistake found on one of them is raised on all. A collective.

        Raises:
            ConfigError: on every rank, the mistake of the lowest rank that found one.
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
        """Waits for all ranks, on the CPU. A collective."""
        if self.control is not None:
            with self._waiting():
                dist.barrier(group=self.control)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """The rows of all ranks, in rank order, on the CPU: shape (world_size * rows, ...). A collective."""
        mine = values.detach().to("cpu").contiguous()
        if self.control is None:
            return mine
        everyone = [torch.empty_like(mine) for _ in range(self.world_size)]
        with self._waiting():
            dist.all_gather(everyone, mine, group=self.control)
        return torch.cat(everyone)

    def gather_objects(self, value: T) -> list[T]:
        """Every rank's value, in rank order, on every rank. A collective."""
        values: list[Any] = [value] * self.world_size
        if self.control is not None:
            with self._waiting():
                dist.all_gather_object(values, value, group=self.control)
        return values

    def fetch(self, value: T, source: int) -> T:
        """One rank's value, on the main rank. These two ranks call it, and no other."""
        box = [value]
        if self.control is not None and source != 0:
            with self._waiting():
                if self.is_main:
                    dist.recv_object_list(box, src=source, group=self.control)
                else:
                    dist.send_object_list(box, dst=0, group=self.control)
        return box[0]

    def report_failure(self, error: BaseException) -> None:
        """Tells the other ranks why this one ends, unless they end for the same reason.

        Raises:
            PeerError: another rank failed before, and the error is only torch's word for that.
        """
        if self.lifeline is not None and not is_agreed(error):
            self.lifeline.report(error)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Marks that this rank waits for the others."""
        if self.lifeline is None:
            yield
            return
        self.lifeline.is_waiting = True
        try:
            yield
        finally:
            self.lifeline.is_waiting = False

    def close(self) -> None:
        """Leaves the process groups that were made for these ranks. A collective."""
        if self.lifeline is not None:
            self.lifeline.close()
        if self.owns_group:
            dist.destroy_process_group()
        elif self.control is not None:
            dist.destroy_process_group(self.control)
