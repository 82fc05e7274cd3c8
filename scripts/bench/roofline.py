"""How close the default recipe comes to the limits of the device.

Measured: the peak rate of a float32 matrix product, and of copying a large array. Counted, operator by
operator over one whole optimizer step: floating-point operations of matrix products and convolutions, and the
bytes of every tensor that an operator reads or writes. The bytes assume a device without caches, so a
bandwidth fraction above 1 means that caches help.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from harness import Bench, main, seconds_of, side_by_side
from lockstep.engine import take_step
from results import Row, median_row

MATRIX_SIZES = (512, 1024, 2048, 4096)
COPY_BYTES = 2**28
LOOKUPS = (torch.ops.aten.index.Tensor, torch.ops.aten.index_select.default)


class TrafficCounter(TorchDispatchMode):
    """Adds up the bytes of all tensors that operators read and write; views move no bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            # A lookup reads as much as it returns, not the whole table.
            tensors = tree_leaves((result, result) if func in LOOKUPS else (args, kwargs, result))
            self.bytes += sum(value.nbytes for value in tensors if isinstance(value, torch.Tensor))
        return result


def measure(bench: Bench) -> list[Row]:
    """The two limits of the device, the cost per image, and the fractions reached."""
    device, rounds = bench.ranks.device, bench.count(10)
    sizes = MATRIX_SIZES[:1] if bench.is_quick else MATRIX_SIZES
    flops_per_second = max(product_rate(size, device, rounds) for size in sizes)
    bytes_per_second = copy_rate(device, rounds)

    run = bench.run(bench.config())
    eager = bench.run(replace(bench.config(), engine="eager"))  # a graph hides its operators
    take_step(eager)
    with FlopCounterMode(display=False) as operations, TrafficCounter() as traffic:
        take_step(eager)
    images = run.plan.batch.global_size
    flops, moved = operations.get_total_flops() / images, traffic.bytes / images

    repeats = bench.count(10)
    times = side_by_side({"step": partial(seconds_of, partial(take_step, run), repeats)}, rounds)
    rates = [repeats * images / seconds for seconds in times["step"]]
    return [
        Row(what="matrix product, best", value=flops_per_second / 1e9, unit="GFLOP/s", n=rounds * len(sizes)),
        Row(
            what="copy of 256 MiB, best, read + written", value=bytes_per_second / 1e9, unit="GB/s", n=rounds
        ),
        Row(what="operations per image", value=flops / 1e6, unit="MFLOP"),
        Row(what="bytes per image, without caches", value=moved / 1e3, unit="kB"),
        median_row("training", rates, "images/s"),
        median_row("fraction of the product rate", [rate * flops / flops_per_second for rate in rates]),
        median_row("fraction of the bandwidth", [rate * moved / bytes_per_second for rate in rates]),
    ]


def product_rate(size: int, device: torch.device, rounds: int) -> float:
    """The best rate over `rounds` products of two square matrices, in operations per second."""
    a, b = torch.rand(2, size, size, device=device)
    out = torch.empty_like(a)
    times = side_by_side({"product": lambda: seconds_of(lambda: torch.mm(a, b, out=out))}, rounds)
    return 2 * size**3 / min(times["product"])


def copy_rate(device: torch.device, rounds: int) -> float:
    """The best rate over `rounds` copies, in bytes read and written per second."""
    source = torch.zeros(COPY_BYTES // 4, device=device)
    copy = torch.zeros_like(source)
    times = side_by_side({"copy": lambda: seconds_of(lambda: copy.copy_(source))}, rounds)
    return 2 * COPY_BYTES / min(times["copy"])


if __name__ == "__main__":
    main(measure)
