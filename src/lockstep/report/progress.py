"""What a person sees of a run in progress: a progress bar on a terminal, plain lines in a file."""

from __future__ import annotations

import sys

from tqdm import tqdm

from lockstep.runs import Record, Status


def say(message: str) -> None:
    """Prints one line, without delay and in one piece, above the progress bar if there is one."""
    tqdm.write(f"lockstep: {message}\n", file=sys.stdout, end="")
    sys.stdout.flush()


class Console:
    """The sink that prints the records of a run."""

    def __init__(self, first_step: int, num_steps: int) -> None:
        self.num_steps = num_steps
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
            numbers = (
                f"loss {record['loss']:.4f}  accuracy {record['accuracy']:.1%}  "
                f"{record['images_per_second']:,.0f} images/s"
            )
            if self._bar is None:
                say(f"{position}  {numbers}")
            else:
                self._bar.set_postfix_str(numbers, refresh=False)
                self._bar.update(step - self._bar.n)
        if "test_loss" in record:
            scores = f"test accuracy {record['test_accuracy']:.2%}  test loss {record['test_loss']:.4f}"
            say(f"{position}  {scores}")

    def close(self, status: Status, reason: str = "") -> None:
        if self._bar is not None:
            self._bar.close()
