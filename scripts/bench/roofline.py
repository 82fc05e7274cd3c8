"""How close the default recipe comes to the limits of the device.

Measured: the peak rate of a matrix product, in float32 and in bf16, and of copying a large array. Counted,
operator by operator over one whole optimizer step: floating-point operations of matrix products and
convolutions, and the bytes of every tensor that an operator reads or writes. The bytes assume a device
without caches, so a bandwidth fraction above 1 means that caches help.
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
from lockstep.config import Config
from lockstep.engine import take_step
from results import Row, median_row

MATRIX_SIZES = (512, 1024, 2048, 4096)
MAX_SECONDS = 0.2
"""Of a product, after which no larger one is tried: bf16 is that slow on a CPU without it."""
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
    """The limits of the device, the cost per image, and the fractions reached, in float32 and in bf16."""
    bytes_per_second = copy_rate(bench.ranks.device, bench.count(10))
    rows = [
        Row(
            what="copy of 256 MiB, best, read + written",
            value=bytes_per_second / 1e9,
            unit="GB/s",
            n=bench.count(10),
        )
    ]
    rows += precision_rows(bench, "float32", bench.config(), torch.float32, bytes_per_second)
    with bench.in_precision("bf16") as in_bf16:
        config = replace(bench.config(), precision="bf16")
        rows += precision_rows(in_bf16, "bf16", config, torch.bfloat16, bytes_per_second)
    return rows


def precision_rows(
    bench: Bench, name: str, config: Config, dtype: torch.dtype, bytes_per_second: float
) -> list[Row]:
    """The rate of products in a precision, the cost per image, and the fractions that training reaches."""
    device, rounds = bench.ranks.device, bench.count(10)
    sizes = MATRIX_SIZES[:1] if bench.is_quick else MATRIX_SIZES
    products = []
    for size in sizes:
        products.append(product_rate(size, dtype, device, rounds))
        if 2 * size**3 / products[-1] > MAX_SECONDS:
            break
    flops_per_second = max(products)
    run = bench.run(config)
    eager = bench.run(replace(config, engine="eager"))  # a graph hides its operators
    take_step(eager)
    with FlopCounterMode(display=False) as operations, TrafficCounter() as traffic:
        take_step(eager)
    images = run.plan.batch.global_size
    flops, moved = operations.get_total_flops() / images, traffic.bytes / images

    repeats = bench.count(10)
    times = side_by_side({"step": partial(seconds_of, partial(take_step, run), repeats)}, rounds)
    rates = [repeats * images / seconds for seconds in times["step"]]
    product = Row(
        what=f"{name}: matrix product, best",
        value=flops_per_second / 1e9,
        unit="GFLOP/s",
        n=rounds * len(products),
    )
    fractions = [rate * flops / flops_per_second for rate in rates]
    return [
        product,
        Row(what=f"{name}: operations per image", value=flops / 1e6, unit="MFLOP"),
        Row(what=f"{name}: bytes per image, without caches", value=moved / 1e3, unit="kB"),
        median_row(f"{name}: training", rates, "images/s"),
        median_row(f"{name}: fraction of the product rate", fractions),
        median_row(f"{name}: fraction of the bandwidth", [rate * moved / bytes_per_second for rate in rates]),
    ]


def product_rate(size: int, dtype: torch.dtype, device: torch.device, rounds: int) -> float:
    """The best rate over `rounds` products of two square matrices, in operations per second."""
    a, b = torch.rand(2, size, size, device=device).to(dtype)
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
