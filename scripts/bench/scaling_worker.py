"""One process of a `Team` in scaling.py: times blocks of steps until the connection closes."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from functools import cache

from harness import Bench, seconds_of
from lockstep.engine import Run, take_step
from lockstep.launch import read_launch
from lockstep.launch.process_group import start_ranks


def serve(port: int, data_root: str, reduction: str) -> None:
    """Answers each line [global size, steps] with the seconds that these steps took."""
    ranks = start_ranks(read_launch(), "no")
    bench = Bench(is_quick=False, data_root=data_root, ranks=ranks)

    @cache
    def run_of(global_size: int) -> Run:
        config = bench.config(global_size=global_size, micro_size=32)
        return bench.run(replace(config, reduction=reduction))  # type: ignore[arg-type]  # one of scaling.py's two

    lines = socket.create_connection(("127.0.0.1", port)).makefile("rw") if ranks.is_main else None
    while request := ranks.broadcast(lines.readline() if lines else ""):
        global_size, repeats = json.loads(request)
        run = run_of(global_size)

        def block(run: Run = run, repeats: int = repeats) -> None:
            for _ in range(repeats):
                take_step(run)
            ranks.barrier()

        ranks.barrier()
        seconds = seconds_of(block)
        if lines:
            lines.write(f"{seconds}\n")
            lines.flush()
    ranks.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
