"""Output that a run outlives: a reader that goes away, a terminal that closes, a full disk. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO


class LastingOutput:
    """A text stream whose `write` and `flush` never fail: what cannot be written is lost.

    Training must not end because nobody reads along any more: `| head`, a dead `tee`, a lost ssh, `>&-`. A
    character that the stream's encoding does not have is written as its code.

    Args:
        stream: what is written to; None, as Python has it for a stream that was closed before the start.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115

    def write(self, text: str) -> int:
        # ValueError: the stream was closed since.
        with suppress(OSError, ValueError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def give_up_if_broken(self) -> None:
        """Drops what cannot be written: Python would try once more as it exits, and then exit with 120."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # without a file descriptor, or closed
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Makes what the block prints to stdout and stderr `LastingOutput`."""
    out, error = LastingOutput(sys.stdout), LastingOutput(sys.stderr)
    try:
        with redirect_stdout(out), redirect_stderr(error):
            yield
    finally:
        out.give_up_if_broken()
        error.give_up_if_broken()
