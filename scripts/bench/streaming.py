"""The default recipe with its training set streamed from disk, compared with it resident on the device.

A block of fifty steps uses several times what the worker prefetches, so prefetched data cannot hide the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness import Bench, main, seconds_of, side_by_side
from lockstep.engine import Run, take_step
from results import Row, median_row, ratio


def measure(bench: Bench) -> list[Row]:
    """Images per second of both, in turn."""
    resident_config = bench.config()
    data = replace(resident_config.data, storage="streamed", num_workers=1)
    streamed_config = replace(resident_config, data=data)
    runs = {
        "streamed": bench.run(streamed_config),
        "resident": bench.run(resident_config),
    }
    repeats = bench.count(50)
    samples = repeats * resident_config.batch.global_size

    def block(run: Run) -> Callable[[], float]:
        return lambda: samples / seconds_of(lambda: take_step(run), repeats)

    rates = side_by_side({name: block(run) for name, run in runs.items()}, bench.count(12))
    runs["streamed"].closing.close()
    what = f"rate of streamed / resident, {data.num_workers} worker"
    return [
        ratio(what, rates["streamed"], rates["resident"], at_least=0.9),
        *(median_row(name, rates[name], "images/s") for name in rates),
    ]


if __name__ == "__main__":
    main(measure)
