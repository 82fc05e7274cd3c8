"""One process of a `Team`: times blocks of steps, or of what ranks do in one, until the connection closes."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch

from harness import Bench, seconds_of
from lockstep.engine import REDUCTIONS, Run, take_step
from lockstep.launch import read_launch
from lockstep.launch.process_group import start_ranks


def serve(path: str, data_root: str, reduction: str) -> None:
    """Answers each line [what, repeats, global size] with the seconds that the repeats took."""
    ranks = start_ranks(read_launch(), "no")
    bench = Bench(is_quick=False, data_root=data_root, ranks=ranks)

    @cache
    def run_of(global_size: int) -> Run:
        config = bench.config(global_size=global_size, micro_size=32)
        return bench.run(replace(config, reduction=reduction))  # type: ignore[arg-type]  # one of the two

    def action_of(what: str, global_size: int) -> Callable[[], object]:
        if what == "agreement":
            return partial(ranks.agree, False)
        run = run_of(global_size)
        if what == "step":
            return partial(take_step, run)
        length = sum(parameter.numel() for parameter in run.model.parameters())
        buffer = torch.zeros(-(-length // ranks.world_size) * ranks.world_size, device=ranks.device)
        exchange = REDUCTIONS[reduction]  # type: ignore[index]  # one of the two
        return partial(exchange, buffer, ranks.world_size, ranks.world_size, ranks.nodes)

    lines = None
    if ranks.is_main:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        lines = connection.makefile("rw")
    while request := ranks.broadcast(lines.readline() if lines else ""):
        what, repeats, global_size = json.loads(request)
        action = action_of(what, global_size)

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
