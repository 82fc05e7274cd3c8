"""A run's records on their way to W&B: a queue, and the one thread that has anything to do with wandb.

While training goes on it computes with NumPy and never with torch: a torch operation would start a second
team of OpenMP threads, more than there are cores, and from then on every step takes twice as long.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch

from lockstep.config import TrackingConfig
from lockstep.runs import Record, Status, read_metrics, write_atomically
from lockstep.tracking import artifacts
from lockstep.tracking.mode import ask_server
from lockstep.tracking.offline_files import highest_step, upload_offline_starts

WANDB_ID_FILE = "wandb-id"
SYNCED_FILE = "wandb-synced"
INIT_SECONDS = 30  # how long the thread waits for W&B's server; training does not
RETRY_SECONDS = 60  # until it asks a server again that did not answer
# How long the end of a run waits for the thread. What is left comes with the next start, or can be synced.
OPEN_SECONDS = 5  # for a server that did not answer before
CLOSE_SECONDS: dict[Status, float] = {"finished": 60, "interrupted": 10, "failed": 10}
MAX_QUEUED_RECORDS = 50  # records, before histograms are left out


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a start of a run ended."""

    status: Status
    reason: str


class WandbRun:
    """One W&B run for the run folder, whatever number of starts it takes.

    The run folder is the truth: W&B is given those of its records that it does not have. So nothing waits for
    W&B, and what it misses can be given to it at any time.
    """

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        mode: str,
        tree: dict[str, Any],
        notify: Callable[[str], None],
        *,
        tensors: Callable[[], dict[str, torch.Tensor]] = dict,
        dataset: Callable[[], dict[str, Any]] | None = None,
        home: Path | None = None,
        patience_seconds: float = 0,
    ) -> None:
        """Starts or resumes the run, in the background.

        Args:
            folder: the run folder; W&B's own folder and the run's id are in it.
            config: project, entity, group, job type, and the steps between histograms.
            mode: online or offline.
            tree: what W&B shows as the run's config.
            notify: is told, in one line, what goes wrong and what is left to sync.
            tensors: what histograms are made of, by name; called in `log`.
            dataset: name and digest of the data, for its artifact; called in the background.
            home: where W&B's own folder is; the run folder, if not given.
            patience_seconds: how much longer than usual the end may wait for the uploads.
        """
        self.is_complete = False
        """Whether the server has all that the run folder holds for it; known once the run is closed."""
        self._folder, self._config, self._tree = folder, config, tree
        self._is_online = mode == "online"
        self._notify, self._tensors, self._dataset = notify, tensors, dataset
        self._home, self._patience_seconds = home or folder, patience_seconds
        self._is_troubled = False
        self._next_step = 0
        (folder / SYNCED_FILE).unlink(missing_ok=True)
        id_file = folder / WANDB_ID_FILE
        if not id_file.exists():
            # A sweep's agent has made the run already; from now on the file is what counts.
            write_atomically(id_file, os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))
        self._id = id_file.read_text()
        self._queue: SimpleQueue[tuple[Record, dict[str, torch.Tensor]] | Ending] = SimpleQueue()
        for record in read_metrics(folder):  # W&B may miss some that earlier starts made
            self._queue.put((record, {}))
        self._is_answering, self._is_ending = Event(), Event()
        self._is_answering.set()  # until it does not
        self._thread = Thread(target=self._serve, name="wandb", daemon=True)

    def log(self, record: Record) -> None:
        """Hands a record on; with histograms, it waits for a copy of the tensors."""
        self._start()
        is_due = self._config.watch > 0 and record["step"] % self._config.watch == 0
        # Without a server nobody takes them: they would fill the memory.
        is_watched = is_due and self._queue.qsize() < MAX_QUEUED_RECORDS
        tensors = self._tensors() if is_watched else {}
        copies = {
            name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in tensors.items()
        }
        self._queue.put((record, copies))

    def close(self, status: Status, reason: str = "") -> None:
        """Waits for the uploads, not for long, and says what is left to sync."""
        self._start()
        self._queue.put(Ending(status=status, reason=reason))
        self._is_ending.set()
        # A slow server is waited for, one that did not answer hardly.
        if self._is_answering.wait(OPEN_SECONDS + self._patience_seconds):
            self._thread.join(CLOSE_SECONDS[status] + self._patience_seconds)
        if not self.is_complete:
            self._is_troubled = True  # what becomes of the thread from here on is not worth a line
            state = "W&B's server does not have all of this run" if self._is_online else "W&B was offline"
            self._notify(f"{state}; to upload it: lockstep sync {self._folder}")

    def _start(self) -> None:
        """Starts the thread with the first record: importing wandb holds up what else Python does."""
        if self._thread.ident is None:
            self._thread.start()

    def _serve(self) -> None:
        """What the thread does: opens the run, hands on what W&B does not have yet, ends the run."""
        try:
            run = self._open()
            self._is_answering.set()
            if run is None:
                return
            self._use_dataset(run)
            while not isinstance(item := self._queue.get(), Ending):
                self._send(run, *item)
            self._finish(run, item)
        except Exception as error:
            self._tell(error)
            self._is_answering.set()

    def _open(self) -> Any:
        """W&B's run: offline at once, online as soon as the server takes it; None where that was too late."""
        import wandb

        quiet = wandb.Settings(
            console="off",
            silent=True,
            init_timeout=INIT_SECONDS,
            # Its exit hook waits so long, too.
            finish_timeout=CLOSE_SECONDS["finished"] + self._patience_seconds,
            finish_timeout_raises=True,
        )
        # wandb's telemetry would tell of a broken server on its own account.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        first_step = highest_step(self._folder) + 1
        while True:
            try:
                wandb.setup(quiet)
                if self._is_online:
                    ask_server()
                    upload_offline_starts(self._folder)
                run = wandb.init(
                    id=self._id,
                    resume="allow",
                    project=self._config.project,
                    entity=self._config.entity or None,
                    group=self._config.group or None,
                    job_type=self._config.job_type or None,
                    name=self._folder.name,
                    dir=self._home,
                    mode="online" if self._is_online else "offline",
                    config=self._tree,
                    settings=quiet,
                )
                break
            except (OSError, wandb.errors.Error) as error:
                self._is_answering.clear()
                reason = (str(error) or repr(error)).splitlines()[0]
                self._tell(f"no server ({reason}); it is asked again every {RETRY_SECONDS:.0f} s")
                wandb.teardown()  # its service still holds the run id
            if self._is_ending.wait(RETRY_SECONDS):
                return None
        self._next_step = run.starting_step if self._is_online else first_step
        self._is_troubled = False
        run.define_metric("samples_seen")
        run.define_metric("*", step_metric="samples_seen")
        return run

    def _send(self, run: Any, record: Record, tensors: dict[str, torch.Tensor]) -> None:
        """One row for a step, unless W&B has it: a resumed run computes some steps again."""
        if record["step"] < self._next_step:
            return
        self._next_step = record["step"] + 1
        import wandb

        row = {key: value for key, value in record.items() if key != "step"}
        try:
            run.log(row | artifacts.histograms(wandb, tensors), step=record["step"])
        except Exception as error:
            self._tell(error)

    def _finish(self, run: Any, ending: Ending) -> None:
        import wandb

        try:
            if ending.status == "failed":
                title = f"{self._folder.name} stopped"
                run.alert(title, ending.reason or "see its output", level="ERROR")
            if ending.status == "interrupted":
                run.mark_preempting()
            run.summary.update(artifacts.summary(self._folder) | artifacts.tables(wandb, self._folder))
            if self._is_online:
                for artifact, aliases in artifacts.model_artifacts(wandb, self._folder, self._id):
                    run.log_artifact(artifact, aliases=aliases)
        except Exception as error:
            self._tell(error)
        run.finish(exit_code=0 if ending.status == "finished" else 1)
        if self._is_online and not self._is_troubled:
            write_atomically(self._folder / SYNCED_FILE, ending.status)
            self.is_complete = True

    def _use_dataset(self, run: Any) -> None:
        """Notes the data by its digest, and has W&B show what the run was trained on."""
        import wandb

        path = self._folder / artifacts.DATASET_FILE
        try:
            if self._dataset is not None and not path.exists():
                write_atomically(path, json.dumps(self._dataset()))
            if self._is_online and path.exists():
                run.use_artifact(artifacts.dataset_artifact(wandb, path))
        except Exception as error:
            self._tell(error)

    def _tell(self, trouble: object) -> None:
        """Tells of trouble once, in one line; training goes on, and the run folder has what W&B misses."""
        if not self._is_troubled:
            self._notify(f"W&B: {' '.join(str(trouble).split())}")
        self._is_troubled = True
