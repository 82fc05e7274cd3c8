"""Worker processes that read ahead what a run needs next: torch's DataLoader, and how its processes end."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import multiprocessing
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any

import torch
from accelerate.utils import recursively_apply, send_to_device
from torch.utils.data import DataLoader, IterableDataset

from lockstep.config import DataConfig
from lockstep.data.reading.small_tensors import send_small_tensors_in_messages
from lockstep.data.reading.worker_deaths import end_worker, quiet_deaths, reported_deaths
from lockstep.errors import DataError, counted, first_line, refuse
from lockstep.launch import (
    SHOW_STACK,
    STOP_SIGNALS,
    LastingOutput,
    collector_paused,
    leave_inherited_garbage,
)

AHEAD = 2
"""Items that each worker keeps ready."""


@dataclass(frozen=True, kw_only=True)
class ReadFailure:
    """What a reader returns instead of an item that it cannot read.

    An exception would arrive wrapped in torch's words.
    """

    message: str


class Workers(Iterator[Any]):
    """The items of a reader, in order, on the device; worker processes read them while others are used.

    They start here, so make this before the process starts threads, which do not survive a fork. They end on
    `close`, when the process exits, or when it is killed. They live on from one `read` to the next. Without
    workers, this process reads each item when it is asked for.

    Args:
        reader: a Dataset of torch's, whose items are trees of tensors, or `ReadFailure`.
        keys: what it is asked for, in this order; None for an IterableDataset, which knows itself.
        config: says how many workers there are, and how they start.
        device: of the items.
        ahead: items that each worker keeps ready.

    Raises:
        ConfigError: the reader cannot be sent to workers that are not forked.
    """

    def __init__(
        self,
        reader: Any,
        keys: Iterable[Any] | None,
        config: DataConfig,
        device: torch.device,
        ahead: int = AHEAD,
    ) -> None:
        self._keys = _Keys(keys or ())
        self._on_device = _mover(device)
        has_workers = config.num_workers > 0
        with warnings.catch_warnings():
            # Ours about the number of workers comes once a run, not once a rank.
            warnings.filterwarnings("ignore", "This DataLoader will create")
            warnings.filterwarnings("ignore", "Got pickle error")
            self._loader = DataLoader(
                reader,
                batch_size=None,
                sampler=None if isinstance(reader, IterableDataset) else self._keys,
                collate_fn=_unchanged,
                num_workers=config.num_workers,
                prefetch_factor=ahead if has_workers else None,
                persistent_workers=has_workers,
                pin_memory=device.type == "cuda",
                multiprocessing_context=config.worker_context if has_workers else None,
                worker_init_fn=_prepare_worker,
                generator=torch.Generator(),  # or it would draw from the one that a user's model may use
            )
            if config.worker_context != "fork":
                resource_tracker.ensure_running()  # its start unblocks signals
            others = set(multiprocessing.active_children())
            self._items: Iterator[Any] = iter([])
            try:
                # Ctrl-C and a scheduler's signals reach every process, but the run needs data to finish its
                # step. A signal that is blocked during a fork stays blocked in the child, from its start.
                with reported_deaths(), blocked_signals(STOP_SIGNALS), quiet_deaths(), collector_paused():
                    self._items = iter(self._loader)
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                rule = (
                    f"cannot send the data set to the workers ({first_line(error)}); use fork, or define its "
                    "class, transforms and collate at the top level of a module"
                )
                raise refuse("data.worker_context", config.worker_context, rule) from error
            finally:
                self._processes = set(multiprocessing.active_children()) - others
                # Runs before multiprocessing's, which would wait for the workers. Now, as an earlier reader's
                # worker may just have died.
                atexit.register(self.close)

    def read(self, keys: Iterable[Any]) -> Iterator[Any]:
        """The items of other keys; what was not yet read of the keys before is dropped."""
        self._keys.keys = keys
        with reported_deaths():
            self._items = iter(self._loader)
        return self

    def __next__(self) -> Any:
        """Raises DataError, if the reader failed or a worker died."""
        with reported_deaths():
            try:
                item = next(self._items)
            except (EOFError, ConnectionError, FileNotFoundError) as error:  # of multiprocessing's sockets
                raise RuntimeError("DataLoader worker is gone while it handed over what it read") from error
        if isinstance(item, ReadFailure):
            raise DataError(item.message)
        return self._on_device(item)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers."""
        atexit.unregister(self.close)
        # torch has no public name for this and leaves it to the garbage collector. That is too late if a
        # traceback holds the iterator: at exit the process would wait for the workers forever.
        shut_down = getattr(self._items, "_shutdown_workers", None)
        self._items = iter([])
        if shut_down is not None:
            # What torch does here fails as soon as any worker of this process has died.
            with suppress(DataError), reported_deaths():
                shut_down()
        for process in self._processes:
            process.kill()  # it ignores the signal that torch sends to a worker that is stuck
            process.join()


def worker_warnings(config: DataConfig, is_used: bool, num_ranks: int, num_cores: int) -> list[str]:
    """What the user should know about the number of workers.

    Args:
        config: says how many each rank has.
        is_used: whether there is data that they read.
        num_ranks: on the node that has the fewest cores for each of its ranks.
        num_cores: of that node.
    """
    count = config.num_workers
    if count and not is_used:
        return [f"data.num_workers = {count} is not used: all data is on the device"]
    if count * num_ranks > num_cores:
        workers = f"{counted(num_ranks * count, 'worker')} on a node with {counted(num_cores, 'core')}"
        return [f"data.num_workers = {count} for each of {counted(num_ranks, 'rank')} makes {workers}"]
    return []


@contextmanager
def blocked_signals(numbers: Iterable[int]) -> Iterator[None]:
    """Lets signals wait until the end of a block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Keys:
    """The keys of the next pass over a DataLoader, which takes its sampler only once."""

    def __init__(self, keys: Iterable[Any]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


def _unchanged(item: Any) -> Any:
    return item


def _mover(device: torch.device) -> Callable[[Any], Any]:
    """A function that moves a tree of tensors to a device."""
    if device.type == "cpu":
        return _unchanged
    if device.type != "cuda":
        return lambda item: send_to_device(item, device)
    copies = torch.cuda.Stream(device)

    def upload(item: Any) -> Any:
        """Copies from pinned memory on a separate stream, while earlier steps are still being computed."""
        with torch.cuda.stream(copies):
            uploaded = send_to_device(item, device, non_blocking=True)
        compute = torch.cuda.current_stream(device)
        compute.wait_stream(copies)

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(compute)  # keeps its memory from the next copy while a step still reads it
            return tensor

        recursively_apply(keep, uploaded)
        return uploaded

    return upload


def _prepare_worker(worker_id: int) -> None:
    """Ends a worker with its parent: it shares what its parent has open, such as the run folder's lock.

    A data set that prints must not end it when nobody reads along any more.
    """
    leave_inherited_garbage()
    sys.stdout, sys.stderr = LastingOutput(sys.stdout), LastingOutput(sys.stderr)
    faulthandler.register(SHOW_STACK, file=2, all_threads=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # the process that a forkserver is may be older
    # What cannot be sent would be lost, and this rank would wait for it for ever. A hook of Python's own.
    Queue._on_queue_feeder_error = staticmethod(end_worker)  # type: ignore[attr-defined]
    send_small_tensors_in_messages()
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
