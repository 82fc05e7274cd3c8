"""What a process that fails leaves behind: a line on stderr, and the same in its launcher's report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def leave_words(line: str) -> None:
    """Prints the line in which a process says why it ends, and gives it to the launcher."""
    with suppress(OSError, ValueError):  # whoever read it is gone
        print(line, file=sys.stderr, flush=True)
    tell_launcher(line)


def tell_launcher(message: str, environ: Mapping[str, str] = os.environ) -> None:
    """Lets torchrun and `accelerate launch` show a message in their report, instead of an exit code alone.

    The format is that of ErrorHandler.record_exception in torch.distributed.elastic.multiprocessing.errors,
    which would take seconds to import.
    """
    if path := environ.get("TORCHELASTIC_ERROR_FILE"):
        details = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": message, "extraInfo": details}}))
