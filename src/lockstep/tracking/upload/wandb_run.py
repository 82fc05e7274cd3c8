"""A run's records on their way to W&B: a queue, and the one background thread that uses wandb.

While training runs, that thread computes with NumPy and never with torch: a torch operation would start a
second team of OpenMP threads, more than there are cores, and every later step would take twice as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

import torch

from lockstep.config import TrackingConfig
from lockstep.runs import SYNCED_FILE, WANDB_ENDING_FILE, Record, Status, read_metrics, write_atomically
from lockstep.tracking import time_limits
from lockstep.tracking.sync_command import sync_command
from lockstep.tracking.upload.end_at_exit import end_at_exit
from lockstep.tracking.upload.upload_state import Stage, UploadState
from lockstep.tracking.upload.wandb_client import CouldNotConnect, WandbClient, exit_code
from lockstep.tracking.wandb_id import read_or_make_id

MAX_QUEUED_RECORDS = 50
"""Above this, records are queued without the tensors of their histograms, which would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a start of a run ended: the last item of the queue."""

    status: Status
    reason: str


class WandbRun:
    """The sink that logs to W&B: one W&B run for a run folder, over any number of starts.

    The run folder is the truth: W&B gets those of its records that it does not have yet. So training does not
    wait for W&B, and what W&B missed can be uploaded at any later time.
    """

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        mode: str,
        config_tree: dict[str, Any],
        notify: Callable[[str], None],
        *,
        tensors: Callable[[], dict[str, torch.Tensor]] = dict,
        wandb_parent: Path | None = None,
        extra_seconds: float = 0,
    ) -> None:
        """Prepares the upload; the first `log`, or `close`, starts it in the background.

        Args:
            folder: the run folder; the run's W&B id is in it.
            config: project, entity, group, job type, and the steps between histograms.
            mode: online or offline.
            config_tree: what W&B shows as the run's config.
            notify: gets one line when something fails, and one if something is left to sync.
            tensors: the tensors to make histograms of, by name; called in `log`.
            wandb_parent: where wandb makes its own folder; by default the run folder.
            extra_seconds: how much longer than usual `close` may wait for the uploads.
        """
        for name in (SYNCED_FILE, WANDB_ENDING_FILE):
            (folder / name).unlink(missing_ok=True)
        self._folder, self._config, self._notify = folder, config, notify
        self._histogram_every, self._tensors = config.watch, tensors
        self._extra_seconds = extra_seconds
        self._client = WandbClient(
            run_id=read_or_make_id(folder),
            folder=folder,
            wandb_parent=wandb_parent or folder,
            is_online=mode == "online",
            tracking=config,
            config_tree=config_tree,
            finish_seconds=time_limits.CLOSE_SECONDS["finished"] + extra_seconds,
        )
        self._queue: SimpleQueue[tuple[Record, dict[str, torch.Tensor]] | Ending] = SimpleQueue()
        for record in read_metrics(folder):  # W&B may miss records of earlier starts
            self._queue.put((record, {}))
        self._upload = UploadState()
        self._run: Any = None
        """wandb's run, once it is open."""
        self._may_tell = Lock()  # never released
        self._is_finishing = Event()  # wandb waits for the uploads, and knows the exit code
        self._closing = Event()  # no further attempt to open the run
        self._thread = Thread(target=self._serve, name="wandb", daemon=True)

    @property
    def is_complete(self) -> bool:
        """Whether the server has all that the run folder holds for it; known once the run is closed."""
        return self._upload.stage is Stage.COMPLETE

    def log(self, record: Record) -> None:
        """Queues a record; if histograms are due, it waits for a copy of the tensors."""
        self._start()
        is_due = self._histogram_every > 0 and record["step"] % self._histogram_every == 0
        tensors = self._tensors() if is_due and self._queue.qsize() < MAX_QUEUED_RECORDS else {}
        copies = {
            name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in tensors.items()
        }
        self._queue.put((record, copies))

    def close(self, status: Status, reason: str = "") -> None:
        """Waits for the uploads, within the time limits, and says if something is left to sync."""
        self._start()
        ending = json.dumps({"status": status, "reason": reason})
        write_atomically(self._folder / WANDB_ENDING_FILE, ending)  # for an upload by `lockstep sync`
        self._queue.put(Ending(status=status, reason=reason))
        self._closing.set()
        if self._upload.wait_while(Stage.RETRYING, time_limits.LAST_ATTEMPT_SECONDS + self._extra_seconds):
            self._thread.join(time_limits.CLOSE_SECONDS[status] + self._extra_seconds)
        if self._thread.is_alive():
            end_at_exit(exit_code(status), lambda: self._hurry(status, reason))
        if self._upload.enter(Stage.ABANDONED):
            is_online = self._client.is_online
            state = "W&B's server does not have all of this run" if is_online else "W&B was offline"
            self._notify(f"{state}; to upload it: {sync_command(self._folder, self._config)}")

    def _start(self) -> None:
        """Starts the thread, if it has not started: importing wandb delays all other Python code."""
        if self._thread.ident is None:
            self._thread.start()

    def _tell_ending(self, status: Status, reason: str) -> None:
        """Tells W&B how this start has ended, once: the thread, or, if that is too slow, the exit hook."""
        if self._run is not None and self._may_tell.acquire(blocking=False):
            self._client.tell_ending(self._run, status, reason)

    def _hurry(self, status: Status, reason: str) -> None:
        """What is left to do as the process exits: the next thing cancels whatever wandb is doing."""
        self._tell_ending(status, reason)
        if self._is_finishing.is_set():
            self._thread.join(0.8 * time_limits.EXIT_SECONDS)

    def _serve(self) -> None:
        """What the thread does: opens the run, logs what W&B does not have yet, ends the run."""
        client = self._client
        with self._failure_reported():
            opened = self._open()
            if opened is None:
                return
            run, next_step = opened
            self._run = run
            with self._failure_reported():
                client.use_dataset(run)
            while not isinstance(item := self._queue.get(), Ending):
                record, tensors = item
                if record["step"] >= next_step:  # a resumed run computes some steps again
                    next_step = record["step"] + 1
                    with self._failure_reported():
                        client.log_record(run, record, tensors)
            with self._failure_reported():
                self._tell_ending(item.status, item.reason)
                client.log_results(run)
            self._is_finishing.set()
            client.finish(run, item.status)
            if client.is_online and self._upload.stage is Stage.SENDING:
                write_atomically(self._folder / SYNCED_FILE, item.status)
                self._upload.enter(Stage.COMPLETE)

    def _open(self) -> tuple[Any, int] | None:
        """Opens the W&B run, with retries until that works; None if `close` came first."""
        while True:
            try:
                opened = self._client.open_run()
            except CouldNotConnect as error:
                if self._upload.enter(Stage.RETRYING):
                    every = f"{time_limits.RETRY_SECONDS:.0f} s"
                    self._report(f"could not connect ({error}); retrying every {every}")
                self._client.forget_attempt()
            else:
                self._upload.enter(Stage.SENDING)
                return opened
            if self._closing.wait(time_limits.RETRY_SECONDS):
                self._upload.enter(Stage.INCOMPLETE)
                return None

    @contextmanager
    def _failure_reported(self) -> Iterator[None]:
        """Ends its block at a failure and reports the first one; the run folder has what W&B misses."""
        try:
            yield
        except Exception as error:
            if self._upload.enter(Stage.INCOMPLETE):
                self._report(error)

    def _report(self, trouble: object) -> None:
        self._notify(f"W&B: {' '.join(str(trouble).split())}")
