"""One process of a `Team`: times blocks of steps until the connection closes."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

from harness import Bench, seconds_of
from lockstep.engine import Run, take_step
from lockstep.launch import read_launch
from lockstep.launch.process_group import start_ranks


def serve(path: str, data_root: str, reduction: str) -> None:
    """Answers each line [global size, repeats] with the seconds that steps took; of 0, agreements."""
    ranks = start_ranks(read_launch(), "no")
    bench = Bench(is_quick=False, data_root=data_root, ranks=ranks)

    @cache
    def run_of(global_size: int) -> Run:
        config = bench.config(global_size=global_size, micro_size=32)
        return bench.run(replace(config, reduction=reduction))  # type: ignore[arg-type]  # one of the two

    lines = None
    if ranks.is_main:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        lines = connection.makefile("rw")
    while request := ranks.broadcast(lines.readline() if lines else ""):
        global_size, repeats = json.loads(request)
        action = partial(take_step, run_of(global_size)) if global_size else partial(ranks.agree, False)

        def block(action: Callable[[], object] = action, repeats: int = repeats) -> None:
            for _ in range(repeats):
                action()
            ranks.barrier()

        ranks.barrier()
        seconds = seconds_of(block)
        if lines:
            lines.write(f"{seconds}\n")
            lines.flush()
    ranks.close()


if __name__ == "__main__":
    serve(*sys.argv[1:])
