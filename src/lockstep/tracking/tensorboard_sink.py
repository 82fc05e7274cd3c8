"""The sink that writes TensorBoard's event files: scalars, pictures and hyper-parameters."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import refuse
from lockstep.runs import Record, Status, read_metrics

TENSORBOARD_FOLDER = "tensorboard"
"""In the run folder."""
PLAIN = (bool, int, float, str)
"""The types that a hyper-parameter may have."""


def check_tensorboard() -> None:
    """Checks that the package is installed.

    Raises:
        ConfigError: it is not; says what to install.
    """
    if importlib.util.find_spec("tensorboard") is None:
        rule = "needs the package tensorboard; install it with: pip install lockstep-trainer[tensorboard]"
        raise refuse("tracking.tensorboard", True, rule)


class TensorBoardSink:
    """Writes what TensorBoard shows of a run. metrics.jsonl is the truth.

    Each start writes the records of the starts before it again. So nothing is there twice, and nothing is
    missing after a kill. (TensorBoard would hide repeated steps, but other readers of its files do not.)
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        metrics: list[str],
        pictures: Callable[[], Mapping[str, np.ndarray]],
        notify: Callable[[str], None],
    ) -> None:
        """Writes what is known so far; to be called when metrics.jsonl holds what this start resumes from.

        Args:
            folder: the run folder.
            settings: the hyper-parameters by name.
            metrics: the values by which TensorBoard compares runs.
            pictures: gives the pictures of the last evaluation by name, uint8 (height, width, 3); called when
                the run ends.
            notify: gets a line if TensorBoard's files cannot be written; the run goes on.
        """
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self._pictures, self._notify, self._step = pictures, notify, 0
        target = folder / TENSORBOARD_FOLDER
        shutil.rmtree(target, ignore_errors=True)
        self._writer: Any = SummaryWriter(target)
        plain = {
            name: value if isinstance(value, PLAIN) else json.dumps(value) for name, value in settings.items()
        }
        *beginning, self._end = hparams(plain, dict.fromkeys(metrics, 0.0))
        for summary in beginning:
            self._write(summary, 0)
        for record in read_metrics(folder):
            self.log(record)

    def log(self, record: Record) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._step = record["step"]
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in record.items()
            if name != "step" and isinstance(value, int | float)
        ]
        self._write(Summary(value=values), self._step)

    def close(self, status: Status, reason: str = "") -> None:
        from torch.utils.tensorboard.summary import image

        try:
            for name, pixels in self._pictures().items():
                self._write(image(name, pixels, dataformats="HWC"), self._step)
        finally:  # without pictures too, what is queued is written
            if status == "finished":
                self._write(self._end, self._step)
            if self._writer is not None:
                self._writer.close()

    def _write(self, summary: Any, step: int) -> None:
        """Queues an event, which a thread writes. After a failure nothing more is written."""
        if self._writer is None:
            return
        try:
            self._writer.file_writer.add_summary(summary, step)
        except Exception as error:
            self._writer = None
            self._notify(f"warning: TensorBoard's files cannot be written ({error}); the run continues")
