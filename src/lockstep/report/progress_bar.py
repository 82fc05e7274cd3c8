"""What a person sees of a run in progress: a progress bar on a terminal, plain lines in a file."""

from __future__ import annotations

import sys

from tqdm import tqdm

from lockstep.report.numbers import shown
from lockstep.runs import Record, Status


def say(message: str) -> None:
    """Prints one line, without delay and in one piece, above the progress bar if there is one."""
    tqdm.write(f"lockstep: {message}\n", file=sys.stdout, end="")
    sys.stdout.flush()


class Console:
    """The sink that prints the records of a run: the loss and the headline value of its task."""

    def __init__(self, first_step: int, num_steps: int, headline: str = "loss") -> None:
        self.num_steps = num_steps
        self._names = dict.fromkeys([headline, "loss"])
        self._bar: tqdm | None = None
        if sys.stdout.isatty():
            self._bar = tqdm(
                total=num_steps,
                initial=first_step,
                unit="step",
                dynamic_ncols=True,
                file=sys.stdout,
                leave=False,
            )

    def log(self, record: Record) -> None:
        step = record["step"]
        position = f"step {step}/{self.num_steps}  epoch {record['epoch']:.2f}"
        if "loss" in record:
            values = [f"{name} {shown(name, record.get(name), 1)}" for name in reversed(self._names)]
            numbers = "  ".join([*values, f"{record['samples_per_second']:,.0f} samples/s"])
            if self._bar is None:
                say(f"{position}  {numbers}")
            else:
                self._bar.set_postfix_str(numbers, refresh=False)
                self._bar.update(step - self._bar.n)
        for split in ("validation", "ema_validation", "test", "ema_test"):
            if f"{split}_loss" in record:
                scored = split.replace("_", " ")
                scores = [
                    f"{scored} {name} {shown(name, record.get(f'{split}_{name}'))}" for name in self._names
                ]
                say(f"{position}  {'  '.join(scores)}")

    def close(self, status: Status, reason: str = "") -> None:
        if self._bar is not None:
            self._bar.close()
