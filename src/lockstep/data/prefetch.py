"""Spans of a training set that stays on disk: worker processes prefetch them in the order of the plan.

A worker knows the plan and works out what to read, so the main process holds no sample order and sends
nothing. Workers send uint8 pixels only. All computing is done on the device, as for a resident set.
"""

from __future__ import annotations

import atexit
import ctypes
import signal
import sys
from collections.abc import Iterator
from itertools import islice
from types import TracebackType

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lockstep.data.batches import Span, without_padding
from lockstep.data.images import ImageFiles
from lockstep.errors import counted, require
from lockstep.launch import STOP_SIGNALS, num_cores
from lockstep.plan import Plan

SPAN_SAMPLES = 2048
"""About how many samples a worker hands over together, 1.6 MB of pixels: enough to pay for the hand-over."""

SPANS_AHEAD = 2
"""Spans that each worker keeps ready."""

Arrays = tuple[Tensor, Tensor, Tensor]
"""Sample ids (steps, window, micro), images (steps, window, micro, 28, 28), labels (steps, window, micro)."""


class SpanReader(IterableDataset[Arrays]):
    """Read by the workers of one rank, which take turns: its spans from a step on, without end."""

    def __init__(self, files: ImageFiles, plan: Plan, rank: int, first_step: int) -> None:
        self.files, self.plan, self.rank, self.first_step = files, plan, rank, first_step

    def __iter__(self) -> Iterator[Arrays]:
        worker = get_worker_info()
        assert worker is not None, "must run in a worker process"
        spans = self.plan.spans(self.first_step, SPAN_SAMPLES)
        for steps in islice(spans, worker.id, None, worker.num_workers):
            ids = torch.from_numpy(self.plan.span_ids(steps, self.rank))
            yield ids, *self.files.read(without_padding(ids))


class Prefetcher:
    """The spans of a reader on the device, in order. Worker processes read them while earlier ones are used.

    The workers are forked here, so make this before the process starts threads. They end on `close`, when the
    process exits, or when it is killed. If a worker dies, the run fails with an error.

    Raises:
        ConfigError: there are more workers than cores.
    """

    def __init__(self, reader: SpanReader, device: torch.device, num_workers: int) -> None:
        cores = num_cores()
        rule = f"must not exceed the {counted(cores, 'core')} that this process may use; one is often enough"
        require(num_workers <= cores, "data.num_workers", num_workers, rule)
        is_cuda = device.type == "cuda"
        loader = DataLoader(
            reader,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=SPANS_AHEAD,
            pin_memory=is_cuda,
            multiprocessing_context="fork",
            worker_init_fn=_die_with_parent,
            generator=torch.Generator(),  # or it would draw from the one that a user's model may use
        )
        # Ctrl-C and a scheduler's signals reach every process, but the run needs data to finish its step. A
        # signal that is blocked during a fork stays blocked in the child, from its first moment.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._arrays: Iterator[Arrays] = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        atexit.register(self.close)  # runs before multiprocessing's, which would wait for the workers
        self._device = device
        self._copies = torch.cuda.Stream(device) if is_cuda else None

    def __iter__(self) -> Iterator[Span]:
        return self

    def __next__(self) -> Span:
        arrays = next(self._arrays)
        if self._copies is None:
            ids, images, labels = (array.to(self._device) for array in arrays)
        else:
            ids, images, labels = _uploaded(arrays, self._device, self._copies)
        return Span(ids=ids, windows=zip(images, labels, strict=True))

    def __enter__(self) -> Prefetcher:
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
        shut_down = getattr(self._arrays, "_shutdown_workers", None)
        self._arrays = iter([])
        if shut_down is not None:
            shut_down()


def _uploaded(arrays: Arrays, device: torch.device, copies: torch.cuda.Stream) -> list[Tensor]:
    """Copies from pinned memory on a separate stream, while earlier steps are still being computed."""
    with torch.cuda.stream(copies):
        uploaded = [array.to(device, non_blocking=True) for array in arrays]
    compute = torch.cuda.current_stream(device)
    compute.wait_stream(copies)
    for tensor in uploaded:
        tensor.record_stream(compute)  # keeps its memory from the next copy while a step still reads it
    return uploaded


def _die_with_parent(worker_id: int) -> None:
    """Ends a worker with its parent: it shares what its parent has open, such as the run folder's lock."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
